"""Commands and patches as the documents give them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a document in `language`."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[str]:
    """Each line of the shell's blocks, without its comment."""
    lines = "".join(blocks(document, "bash")).replace("\\\n", " ").splitlines()
    bare = (re.sub(r"\s+#.*", "", line).strip() for line in lines)
    return [re.sub(r"\s+", " ", line) for line in bare if line]


def links(document: str) -> list[str]:
    """What the document links to or shows in the repository."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
