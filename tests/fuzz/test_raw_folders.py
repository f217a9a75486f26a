"""Raw folders with one or two things wrong, or valid in unusual dress, through `ingest`."""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import raw
from pipeline.ingest import ingest
from pipeline.schema import InputError, Outputs
from tests.fuzz.dresses import DRESSES
from tests.fuzz.faults import FAULTS
from tests.fuzz.folder import Folder, Place, folders
from tests.fuzz.reference import expected, found


@dataclass(frozen=True)
class Case:
    folder: Folder
    faults: list[tuple[str, str]]
    """Name, and how a message about it starts, the raw folder left out."""
    dresses: list[str]
    batch_rows: int
    """Rows that are read at a time."""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    folder = draw(folders())
    faults: list[tuple[str, str]] = []
    spoiled: list[Place] = []
    for _ in range(draw(st.sampled_from([1, 0, 2, 1]))):
        possible = {
            name: places
            for name, fault in FAULTS.items()
            if (places := [p for p in fault.possible(folder) if not overlaps(p, spoiled)])
        }
        name = draw(st.sampled_from(list(possible)))
        place = draw(st.sampled_from(possible[name]))
        spoiled.append(place)
        file = place.table if place.table == "item_images" else f"{place.table}.parquet"
        faults.append((name, file + FAULTS[name].spoil(folder, place, draw)))
    chosen = draw(st.lists(st.sampled_from(list(DRESSES)), max_size=3, unique=True))
    dresses = [name for name in chosen if DRESSES[name](folder, draw)]
    return Case(folder, faults, dresses, draw(st.sampled_from([raw.BATCH_ROWS, 1, 2, 3])))


def overlaps(place: Place, others: list[Place]) -> bool:
    """Whether a fault here could hide one of the others."""
    return any(
        place.table == other.table and (place.column == other.column or "" in (*place, *other))
        for other in others
    )


def test_every_raw_folder_is_read_right_or_refused_by_name(
    workspace: Path,
    examples: settings,
    tally: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: Counter[str] = Counter()

    @examples
    @given(cases())
    def read(case: Case) -> None:
        drawn.update([*(name for name, _ in case.faults), *case.dresses])
        tally["raw folders"] += 1
        tally["of them refused"] += bool(case.faults)
        monkeypatch.setattr(raw, "BATCH_ROWS", case.batch_rows)
        with tempfile.TemporaryDirectory(dir=workspace.parent) as path:
            case.folder.write(Path(path))
            check(case, Path(path))

    read()
    assert {*FAULTS, *DRESSES} - {*drawn} == set(), "not drawn once"


def check(case: Case, path: Path) -> None:
    """Run `ingest` on the raw folder at `path`, over what an earlier run left here."""
    before = files_here()
    if not case.faults:
        with Outputs() as outputs:
            stats = ingest(path, case.folder.data(path), outputs)
        assert found(stats) == expected(case.folder)
        return
    with pytest.raises(InputError) as caught, Outputs() as outputs:
        ingest(path, case.folder.data(path), outputs)
    message = str(caught.value)
    assert message.startswith(tuple(f"{path}/{start}" for _, start in case.faults))
    assert "\n" not in message
    assert files_here() == before


def files_here() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
