"""What the predictions have found of the sample's click model, part by part.

A click's true logit is a sum of four parts (`sample/clicks.py`). For each of them stands what the
AUC on valid falls to if the truth lacks it, and what the predictions gain if they are told it: by a
logistic regression of the label on their logit and the part, fitted on half of the users and judged
on the others, both ways. What is gained is what had not been found.

    python -m benchmarks.quality.click_model

For the sample, as the pipeline left it in the working directory.
"""

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

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
    print(pd.DataFrame(table).to_string(float_format="{:.4f}".format, na_rep=""))


def found(world: World, rows: Impressions, logit: np.ndarray) -> dict[str, dict[str, float]]:
    """AUCs, by the items that are asked about and by what is known."""
    parts = logit_parts(world.config, world.items, rows.history, rows.target)
    cold = world.items.cold[rows.target]
    over = {EVERY: np.ones(len(rows), bool), WARM: ~cold, COLD: cold}
    truth = sum(parts.values(), np.zeros(len(rows)))
    scores = {
        "the truth": truth,
        **{f"the truth without {name}": truth - part for name, part in parts.items()},
        "predicted": logit,
        **{f"predicted, told {name}": told(rows, logit, part) for name, part in parts.items()},
    }
    return {
        items: {
            known: float(roc_auc_score(rows.label[kept], score[kept]))
            for known, score in scores.items()
        }
        for items, kept in over.items()
    }


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
