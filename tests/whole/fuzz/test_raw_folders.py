"""Raw folders with one or two things wrong, or valid in unusual dress, through `ingest`."""

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.common.files import InputError, Outputs
from pipeline.ingest import ingest
from pipeline.tables import table
from tests.whole.fuzz.conftest import Tries
from tests.whole.fuzz.support.dresses import DRESSES
from tests.whole.fuzz.support.faults import FAULTS
from tests.whole.fuzz.support.folder import Folder, Place, folders, plain_folder
from tests.whole.fuzz.support.reference import expected, found


@dataclass(frozen=True)
class Case:
    folder: Folder
    faults: list[str]
    """How a message about each starts, the raw folder left out."""
    dresses: list[str]
    batch_rows: int
    """Rows that are read at a time."""

    def ingest(self) -> dict[str, Any]:
        """Written and ingested; an InputError then starts as a path in the raw folder."""
        with (
            pytest.MonkeyPatch.context() as patch,
            tempfile.TemporaryDirectory() as folder,
            Outputs() as outputs,
        ):
            patch.setattr(table, "BATCH_ROWS", self.batch_rows)
            path = Path(folder)
            self.folder.write(path)
            try:
                return ingest(path, self.folder.data(path), outputs)
            except InputError as error:
                raise InputError(str(error).removeprefix(f"{path}/")) from None


@st.composite
def cases(draw: st.DrawFn, fault: str | None = None, dress: str | None = None) -> Case:
    """With this fault and half of the time a second one, or none; with this dress, and others."""
    folder = draw(folders())
    names = [fault, *draw(st.lists(st.sampled_from(list(FAULTS)), max_size=1))] if fault else []
    faults: list[str] = []
    spoiled: list[Place] = []
    for name in names:
        places = [p for p in FAULTS[name].possible(folder) if not overlaps(p, spoiled)]
        assume(places and folder.item_ids())  # the first fault may have taken all items
        place = draw(st.sampled_from(places))
        spoiled.append(place)
        file = place.table if place.table == "item_images" else f"{place.table}.parquet"
        faults.append(file + FAULTS[name].spoil(folder, place, draw))
    others = draw(st.lists(st.sampled_from(list(DRESSES)), max_size=2, unique=True))
    chosen = [dress, *others] if dress else others
    dresses = [name for name in chosen if DRESSES[name](folder, draw)]
    assume(dress is None or dress in dresses)
    return Case(folder, faults, dresses, draw(st.sampled_from([table.BATCH_ROWS, 1, 2, 3])))


def overlaps(place: Place, others: list[Place]) -> bool:
    """Whether a fault here could hide one of the others."""
    return any(
        place.table == other.table and (place.column == other.column or "" in (*place, *other))
        for other in others
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_by_name(
    workspace: Path, tries: Tries, tally: Counter[str], fault: str
) -> None:
    Case(plain_folder(), [], [], table.BATCH_ROWS).ingest()
    before = files(workspace)
    assert before

    @tries(fault, 6, 40)
    @given(cases(fault))
    def refused(case: Case) -> None:
        tally["raw folders with faults"] += 1
        with pytest.raises(InputError) as caught:
            case.ingest()
        message = str(caught.value)
        assert message.startswith(tuple(case.faults))
        assert "\n" not in message
        assert files(workspace) == before

    refused()


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("dress", DRESSES)
def test_a_dress_makes_no_difference(tries: Tries, tally: Counter[str], dress: str) -> None:
    @tries(dress, 5, 25)
    @given(cases(dress=dress))
    def read(case: Case) -> None:
        tally["valid raw folders"] += 1
        assert found(case.ingest()) == expected(case.folder)

    read()


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
