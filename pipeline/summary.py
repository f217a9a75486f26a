"""Stage `summary`: the few figures that runs are compared by, Task 1's and Task 2's in one table.

They are the only ones that DVC counts as metrics; all others are in the files beside.
"""

from typing import Any

from pipeline.common import paths
from pipeline.common.files import read_json, write_json
from pipeline.common.stage import made, run, shown


def main() -> None:
    found = summary()
    write_json(paths.SUMMARY, found)
    made(
        f"valid AUC {shown(found['auc'])}, gAUC {shown(found['gauc'])}, "
        f"logloss {shown(found['logloss'])}, Task 1 judge {shown(found['task1_auc'])}"
    )


def summary() -> dict[str, Any]:
    """On valid; with the share of the best possible AUC that was reached, where that is known."""
    overall = read_json(paths.valid_metrics_path("all"))
    return {
        **{name: overall[name] for name in ("auc", "gauc", "logloss")},
        "auc_cold_items": read_json(paths.valid_metrics_path("cold_items"))["auc"],
        **{name: overall[name] for name in overall if name == "oracle_share"},
        "task1_auc": read_json(paths.TASK1_METRICS)["auc"],
    }


if __name__ == "__main__":
    run("summary", main)
