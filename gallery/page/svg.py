"""Charts as SVG that goes into the page: on white and on black, the same bytes every time.

What is neutral is drawn in NEUTRAL, which becomes `currentColor`.
"""

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

import matplotlib.style
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE = "#2f7fd0", "#cf701c"
"""Both stand out from white (4.1 and 3.5 to 1) and from the dark page (4.3 and 5.1)."""
NEUTRAL = "#010203"
FONT = "DejaVu Sans"
"""Comes with matplotlib, so the layout is that of every machine; the page's font is drawn."""

STYLE: dict[str, Any] = {
    "axes.edgecolor": NEUTRAL,
    "axes.facecolor": "none",
    "axes.labelcolor": NEUTRAL,
    "axes.prop_cycle": cycler(color=[BLUE, ORANGE]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": FONT,
    "font.size": 9,
    "grid.alpha": 0.15,
    "grid.color": NEUTRAL,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": NEUTRAL,
    "xtick.color": NEUTRAL,
    "ytick.color": NEUTRAL,
}


def drawn(title: str, draw: Callable[[Axes], None]) -> str:
    """What `draw` draws, as an `<svg>` element without dates; its ids depend on `title` alone."""
    with matplotlib.style.context(["default", STYLE | {"svg.hashsalt": title}]):
        figure = Figure(figsize=(4.6, 3.1), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(True)
        draw(axes)
        text = StringIO()
        figure.savefig(text, format="svg")
    return inline(text.getvalue(), title)


def inline(svg: str, title: str) -> str:
    """An SVG file as an element of a page, scaled by the page and drawn in its colour and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)  # of all pages
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)  # with the date
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'<g id="[\w.]+_\d+">', "<g>", svg)  # the same in every chart
    svg = svg.replace(NEUTRAL, "currentColor").replace(f"'{FONT}'", "system-ui, sans-serif")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1).strip()
