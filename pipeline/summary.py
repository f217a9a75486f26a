"""Stage `summary`: the few figures that runs are compared by, Task 1's and Task 2's in one table.

They are the only ones that DVC counts as metrics; all others are in the files beside.
"""

from typing import Any

from pipeline import schema
from pipeline.params import Params
from pipeline.schema import read_json, write_json
from pipeline.stage import made, run, shown

GROUPS = ("all", "cold_items", "warm_items")


def main(_params: Params) -> None:
    found = summary()
    write_json(schema.SUMMARY, found)
    made(
        f"valid AUC {shown(found['auc'])}, gAUC {shown(found['gauc'])}, "
        f"logloss {shown(found['logloss'])}, Task 1 judge {shown(found['task1_auc'])}"
    )


def summary() -> dict[str, Any]:
    """On valid, the best possible AUC and the share of it where that is known."""
    groups = {name: read_json(schema.valid_metrics_path(name)) for name in GROUPS}
    overall, judged = groups["all"], read_json(schema.TASK1_METRICS)
    known = {name: value for name, value in overall.items() if name.startswith("oracle")}
    return {
        **{name: overall[name] for name in ("auc", "gauc", "logloss")},
        "auc_cold_items": groups["cold_items"]["auc"],
        "auc_warm_items": groups["warm_items"]["auc"],
        **known,
        **{f"task1_{name}": judged[name] for name in ("auc", "gauc", "logloss")},
        "task1_auc_cold_items": judged["auc_cold_items"],
    }


if __name__ == "__main__":
    run("summary", main)
