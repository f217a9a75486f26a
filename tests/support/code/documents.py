"""Commands, patches, links and folders as the documents give them."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a document in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text_of(document), re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[str]:
    """Each line of the shell's blocks, without its comment."""
    lines = "".join(blocks(document, "bash")).replace("\\\n", " ").splitlines()
    bare = (re.sub(r"\s+#.*", "", line).strip() for line in lines)
    return [re.sub(r"\s+", " ", line) for line in bare if line]


def broken_links(document: str) -> list[str]:
    """What the document links to or shows in the repository and is not there: file or heading."""
    targets = re.findall(r"\]\(([^)]+)\)", text_of(document))
    return [target for target in targets if "://" not in target and not leads(document, target)]


def leads(document: str, target: str) -> bool:
    path, _, heading = target.partition("#")
    file = (ROOT / document).parent / path if path else ROOT / document
    return file.exists() and (not heading or heading in headings(file))


def headings(file: Path) -> set[str]:
    """As links name them."""
    found = re.findall(r"^#+ (.*)", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def folders_told(document: str) -> list[str]:
    """Those in the first column of the document's tables."""
    cells = re.findall(r"^\| (`\w+/.*?) \|", text_of(document), re.MULTILINE)
    return [folder for cell in cells for folder in re.findall(r"`([\w/]+)/`", cell)]


def folders_of_code() -> set[str]:
    """A package, and a folder in it: those with code that git knows, in themselves or below."""
    listing = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    parents = {Path(path).parent.parts for path in listing.stdout.splitlines()}
    return {"/".join(parts[:depth]) for parts in parents for depth in (1, 2)}
