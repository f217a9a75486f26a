"""A smaller data set of an earlier time: what train holds, cut into train, valid and test.

Test keeps its labels, in test_labels.parquet beside the folder of splits, so that what is chosen on
valid can be told on rows that chose nothing.

    python -m benchmarks.quality.cut_in_time SOURCE FOLDER [--train 0.2] [--judged 0.025]
"""

import argparse
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.common.paths import CLICKS

LABELS = "test_labels.parquet"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "source", type=Path, help="a folder in the raw layout, rows in time's order"
    )
    parser.add_argument(
        "folder", type=Path, help="where the smaller one goes; it must not be there"
    )
    parser.add_argument("--train", type=float, default=0.2, help="share of train's rows")
    parser.add_argument(
        "--judged", type=float, default=0.025, help="likewise of valid, and of test"
    )
    asked = parser.parse_args()
    rows = cut(asked.source, asked.folder, asked.train, asked.judged)
    print(f"{asked.folder}: " + ", ".join(f"{n:,} rows of {split}" for split, n in rows.items()))


def cut(source: Path, folder: Path, train: float, judged: float) -> dict[str, int]:
    """Write the smaller data set; returns its rows. The items, and their covers, are all there."""
    if train + 2 * judged > 1:
        raise SystemExit(f"--train {train} and twice --judged {judged} are more than all rows")
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("train.*", "valid.*", "test.*"))
    (folder / CLICKS).mkdir(exist_ok=True)
    whole = pq.read_table(source / CLICKS / "train.parquet")
    start, rows = 0, {}
    for split, share in (("train", train), ("valid", judged), ("test", judged)):
        part = whole.slice(start, int(share * len(whole)))
        start, rows[split] = start + len(part), len(part)
        if split == "test":
            pq.write_table(part.select(["label"]), folder / LABELS)
            part = part.drop_columns(["label"]).append_column("ID", pa.array(range(len(part))))
        pq.write_table(part, folder / CLICKS / f"{split}.parquet")
    return rows


if __name__ == "__main__":
    main()
