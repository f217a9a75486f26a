"""Stage `submit`: the leaderboard file, checked by reading it back."""

import io
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import pandas as pd

from pipeline.common import paths
from pipeline.common.files import InputError, Outputs, read_array
from pipeline.common.stage import made, run
from pipeline.console.environment import environment
from pipeline.settings.submit import Submit

MEMBER = "prediction.csv"


def main(section: Submit) -> None:
    predictions = pd.read_parquet(paths.predictions_path("test"))
    ids = np.array(read_array(paths.TEST_ID))
    with Outputs() as outputs:
        outputs.json(paths.ENVIRONMENT, environment())
        archive = outputs.path(paths.SUBMISSION)
        write_submission(archive, predictions, section.column)
        check_submission(archive, ids, section.column)
    made(f"{paths.SUBMISSION}, {len(ids):,} rows, column {section.column}")


def write_submission(archive: Path, predictions: pd.DataFrame, column: str) -> None:
    """A zip with one `prediction.csv`: `ID,<column>`, then a row each. Equal rows, equal bytes."""
    table = predictions[["ID", "probability"]].rename(columns={"probability": column})
    content = table.to_csv(index=False, float_format="%.9g", lineterminator="\n")
    # ZipFile would stamp the time of day and the platform.
    member = ZipInfo(MEMBER, date_time=(1980, 1, 1, 0, 0, 0))
    member.create_system = 3
    member.external_attr = 0o644 << 16
    member.compress_type = ZIP_DEFLATED
    with ZipFile(archive, "w") as file:
        file.writestr(member, content.encode())


def check_submission(archive: Path, ids: np.ndarray, column: str) -> None:
    """Read the zip as the leaderboard would; InputError for anything that it would refuse."""
    with ZipFile(archive) as file:
        if file.namelist() != [MEMBER]:
            raise InputError(f"{archive}: holds {file.namelist()}; expected {MEMBER} alone")
        table = pd.read_csv(io.BytesIO(file.read(MEMBER)), keep_default_na=False, na_values=["nan"])
    if list(table.columns) != ["ID", column]:
        raise InputError(f"{archive}: columns {list(table.columns)}; expected ['ID', '{column}']")
    if len(table) != len(ids):
        raise InputError(f"{archive}: {len(table)} rows; test has {len(ids)}")
    differing = np.flatnonzero(table["ID"].to_numpy() != ids)
    for row in differing[:1]:
        raise InputError(f"{archive}, row {row}: ID {table['ID'][row]}; test has {ids[row]} there")
    probability = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    for row in np.flatnonzero(~((probability >= 0) & (probability <= 1)))[:1]:
        raise InputError(
            f"{archive}, row {row}: {table[column][row]}; expected a probability from 0 to 1"
        )


if __name__ == "__main__":
    run("submit", main)
