"""A package's README.md: the model card, with the front matter that the Hugging Face hub reads."""

import json
from collections.abc import Mapping
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

NAMES = {"sample": "the embedded sample", "microlens_1m": "MicroLens 1M (MMCTR challenge)"}
"""By `data.source`; a folder's own path is nobody else's concern."""
METRICS = {"auc": "AUC", "gauc": "gAUC", "logloss": "logloss"}
TASK = "tabular-classification"

TEXT = """{front}

# {model}: click probabilities on {data}

{kind}, trained by mmctr: the probability of a click on an item,
after the items that somebody clicked before.

| on valid | AUC | gAUC | logloss |
| --- | --- | --- | --- |
| epoch {best_epoch} of {epochs} | {auc} | {gauc} | {logloss} |

**Data**: {data}, {rows_train:,} rows of train, {users:,} users, {items:,} items.
{parameters:,} parameters; `config.json` has the sizes of the model.

## Settings

```json
{settings}
```

## How to load

```python
from serving.scorer import Scorer

scorer = Scorer.load("this/folder")
scorer.score(history=[12, 7, 99], candidates=[5, 6])  # probabilities, the youngest item last
scorer.rank(history=[12, 7, 99], k=10)
```

Nothing else is needed: the items, their vectors and what was counted of the clicks are files of
this folder. No code is run that it holds.

## Licence

The code is Apache-2.0. Weights, titles and vectors are made from the data, so what its licence asks
holds for them: set `license` above before you publish.
"""

KINDS = {
    "qin": "A quadratic interest network (arXiv 2504.17699)",
    "transformer_dcn": "A transformer over history and candidate, and DCNv2",
    "lightgbm": "Boosted trees",
}


def card(
    description: Mapping[str, Any], stats: Mapping[str, Any], metrics: Mapping[str, Any]
) -> str:
    """Of a model's config.json, the data's stats.json and the metrics of its training."""
    data = NAMES.get(stats["settings"]["source"], "a folder in the competition's layout")
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=stats["settings"]["source"] if data in NAMES.values() else "own",
            dataset_name=data,
            dataset_split="validation",
            metric_type=name,
            metric_name=shown,
            metric_value=round(metrics[name], 6),
        )
        for name, shown in METRICS.items()
        if metrics[name] is not None
    ]
    front = ModelCardData(
        license="other",
        license_name="that-of-the-data",
        library_name="mmctr",
        tags=["click-through-rate", "recommendation", description["model"]],
        pipeline_tag=TASK,
        model_name=description["model"],
        eval_results=results,
    )
    figures = {
        name: "none" if metrics[name] is None else f"{metrics[name]:.4f}" for name in METRICS
    }
    return TEXT.format_map(
        {
            **stats,
            **metrics,
            **figures,
            "front": f"---\n{front.to_yaml()}\n---",
            "model": description["model"],
            "kind": KINDS[description["model"]],
            "data": data,
            "settings": settings_of(description["train"]),
        }
    )


def settings_of(train: Mapping[str, Any]) -> str:
    """Section `train`, without the sizes of models of another kind."""
    return json.dumps(
        {x: train[x] for x in train if x not in KINDS or x == train["model"]}, indent=2
    )
