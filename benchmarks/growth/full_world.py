"""Writes the sample's world at any size, in the raw layout, into the working directory.

    python -m benchmarks.growth.full_world [--items 91717] [--users 150000] [--slates 12]

Each user is shown two items a slate: 3.6 million rows of train, and 300,000 each of valid and test,
as the sizes are. Beside the folder stands what only its maker knows, the AUC of the true click
probabilities on valid.
"""

import argparse
from pathlib import Path

from benchmarks.support.raw_layout import ITEMS, TAG_VOCABULARY
from pipeline.common.files import write_json
from sample.world import WorldConfig, build
from sample.write import write_raw

RAW, ORACLE = Path("raw"), Path("oracle.json")
SIZES = {"items": ITEMS, "users": 150_000, "slates": 12, "tags": TAG_VOCABULARY}
SEED = 2025


def main() -> None:
    parser = argparse.ArgumentParser(description="The sample's world at any size.")
    add_sizes(parser)
    asked = parser.parse_args()
    config = WorldConfig(
        items=asked.items, users=asked.users, train_slates=asked.slates, tags=asked.tags
    )
    world = build(config, SEED)
    write_json(ORACLE, {"auc": world.oracle_auc("valid")})
    write_raw(world, RAW)


def add_sizes(parser: argparse.ArgumentParser) -> None:
    for name, size in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=size, help=f"of the world: {size:,}")


if __name__ == "__main__":
    main()
