"""What one would click next: `python -m serving.rank --history 12,7,99 --top 10`.

Prints ids, titles and probabilities of the most likely items, the history's own left out; with
`--why` also what of the history spoke for each, by what the log odds lose without it.
"""

import argparse
import logging
import re
import sys
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.common.files import InputError
from serving.scorer import DEFAULT, Person, Ranking, Scorer

SPOKE = 3
"""Items of the history that are named for each candidate."""
WIDTH = 120
"""Columns, where the output is no terminal."""


def main() -> None:
    options = parsed()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        scorer = Scorer.load(options.package)
        person = scorer.told(options.history)
        ranking = person.rank(options.top, seen=options.seen)
        console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
        print(history_line(person))
        console.print(table(ranking, reasons(person, ranking) if options.why else None))
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--history",
        type=ids,
        default=[],
        metavar="ID,ID,...",
        help="ids of the source that were clicked, the youngest last; without it, somebody new",
    )
    parser.add_argument("--top", type=int, default=10, metavar="K", help="how many items (10)")
    parser.add_argument("--why", action="store_true", help="what of the history spoke for each")
    parser.add_argument("--seen", action="store_true", help="items of the history as well")
    parser.add_argument("--package", type=Path, default=DEFAULT, help=f"({DEFAULT})")
    options = parser.parse_args()
    if options.top < 1:
        parser.error(f"--top is {options.top}; expected 1 or more")
    return options


def ids(text: str) -> list[int]:
    """Of whole numbers with commas between them, and perhaps one after the last."""
    if not re.fullmatch(r"\s*([+-]?\d+\s*(,\s*[+-]?\d+\s*)*,?\s*)?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers and commas, as 12,7,99")
    return [int(part) for part in text.split(",") if part.strip()]


def history_line(person: Person) -> str:
    """In the order of the history."""
    count = len(person.items)
    last = [title_of(person, place) for place in range(max(0, count - SPOKE), count)]
    earlier = ["..."] if count > len(last) else []
    told = f": {', '.join(earlier + last)}" if count else ""
    return f"after {count} item{'' if count == 1 else 's'}{told}"


def title_of(person: Person, place: int) -> str:
    """Of an item of the history, by its place."""
    title = str(person.scorer.titles[person.dense[place]])
    return title or f"item {person.items[place]}"


def reasons(person: Person, ranking: Ranking) -> list[str]:
    """For each item of the ranking the items of the history that added most, and how much."""
    if not len(ranking.items):
        return []
    return [spoke_for(person, added) for added in person.why(ranking.items)]


def spoke_for(person: Person, added: np.ndarray) -> str:
    """`added` (n,) is what each item of the history adds to the log odds."""
    strongest = [place for place in np.argsort(-added, kind="stable")[:SPOKE] if added[place] > 0]
    return "\n".join(f"{added[place]:+.2f} {title_of(person, place)}" for place in strongest)


def table(ranking: Ranking, reasons: list[str] | None) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("", justify="right")
    table.add_column("id", justify="right")
    table.add_column("probability", justify="right")
    table.add_column("title", overflow="fold")
    if reasons is not None:
        table.add_column("spoke for it, in log odds", overflow="fold")
    for place, (item, probability, title) in enumerate(zip(*ranking, strict=True)):
        why = [] if reasons is None else [reasons[place]]
        cells = [str(place + 1), str(item), f"{probability:.4f}", title, *why]
        table.add_row(*(Text(cell) for cell in cells))
    return table


if __name__ == "__main__":
    main()
