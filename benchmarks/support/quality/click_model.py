"""What the predictions have found of the sample's click model, part by part.

A click's true logit is a sum of four parts (`sample/clicks.py`). For each of them stands what the
AUC on valid falls to if the truth lacks it, and what the predictions gain if they are told it: by a
logistic regression of the label on their logit and the part, fitted on half of the users and judged
on the others, both ways. What is gained is what had not been found.

    python -m benchmarks.support.quality.click_model

For the sample, as the pipeline left it in the working directory.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from ctr.evaluation.metrics import auc
from pipeline.common.paths import predictions_path
from pipeline.settings.params import load_params
from sample.clicks import logit_parts
from sample.config import WorldConfig
from sample.world import Impressions, World, build

COLD, WARM, EVERY = "cold items", "warm items", "all"


def main() -> None:
    params = load_params()
    if params.data.source != "sample":
        raise SystemExit(
            f"data.source is {params.data.source}: only of `sample` is the truth known"
        )
    world = build(WorldConfig(), params.data.seed)
    rows = world.splits["valid"]
    probability = pd.read_parquet(predictions_path("valid"))["probability"].to_numpy()
    if len(probability) != len(rows):
        raise SystemExit(f"{predictions_path('valid')} is not of this sample: run `dvc repro`")
    table = found(world, rows, np.log(probability / (1 - probability)))
    print(table.to_string(float_format="{:.4f}".format, na_rep=""))


def found(world: World, rows: Impressions, logit: np.ndarray) -> pd.DataFrame:
    """AUCs by what is known (its rows), and over which items (its columns)."""
    parts = logit_parts(world.config, world.items, rows.history, rows.target)
    cold = world.items.cold[rows.target]
    over = {EVERY: np.ones(len(rows), bool), WARM: ~cold, COLD: cold}
    scores = {
        "the truth": sum(parts.values()),
        **{f"the truth without {name}": sum(without(parts, name).values()) for name in parts},
        "predicted": logit,
        **{f"predicted, told {name}": told(rows, logit, part) for name, part in parts.items()},
    }
    return pd.DataFrame(
        {
            name: {
                key: auc(rows.label[kept], np.asarray(score)[kept]) for key, score in scores.items()
            }
            for name, kept in over.items()
        }
    )


def without(parts: Mapping[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {other: part for other, part in parts.items() if other != name}


def told(rows: Impressions, logit: np.ndarray, part: np.ndarray) -> np.ndarray:
    """float64 (n,): logits that read the predictions' and the part; users fit the other half's."""
    read = np.stack([logit, part], axis=1)
    first = np.random.default_rng(0).permutation(rows.user_id.max() + 1)[rows.user_id] % 2 == 0
    logits = np.empty(len(rows))
    for here, there in ((first, ~first), (~first, first)):
        model = LogisticRegression().fit(read[here], rows.label[here])
        logits[there] = model.decision_function(read[there])
    return logits


if __name__ == "__main__":
    main()
