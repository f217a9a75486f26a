"""Boosted trees under way: LightGBM's booster, a tree at a time, from any number of trees on.

The trees are the same however often the run was interrupted. LightGBM goes on from a model's text
with the scores that it had, to the last bit, but would draw the columns of its trees from the start
again: here each tree draws with a seed of its own, of `train.seed` and the tree's number.
"""

import logging
import re
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ctr.boosting.library import threads
from ctr.boosting.rows import Data
from ctr.engine.data import mixed
from ctr.engine.loop import measured
from pipeline.common import paths
from pipeline.common.files import InputError
from pipeline.settings.ctr.train import Train

if TYPE_CHECKING:
    from lightgbm import Booster

SEED = "feature_fraction_seed"
NO_COLUMN = "num_features()) > (0)"
"""In LightGBM's own error, where no column has values to tell apart."""
LEAVES = re.compile(r"^num_leaves=(\d+)$", re.MULTILINE)
"""Of each tree, in a model's text."""

log = logging.getLogger(__name__)


def parameters(settings: Train) -> dict[str, Any]:
    """As LightGBM names them. By columns it is the faster on few cores, and the same bytes."""
    chosen = settings.lightgbm
    return {
        "objective": "binary",
        "metric": "binary_logloss",
        "learning_rate": chosen.learning_rate,
        "num_leaves": chosen.leaves,
        "min_data_in_leaf": chosen.min_rows,
        "lambda_l2": chosen.l2,
        "feature_fraction": chosen.columns,
        "max_bin": chosen.bins,
        "data_random_seed": settings.seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": threads(),
        "verbosity": -1,
    }


class Forest:
    """The trees so far."""

    def __init__(self, lightgbm: ModuleType, data: Data, settings: Train, text: str = "") -> None:
        """Goes on from a model's `text`. Reads the rows when the first tree is asked for."""
        self.lightgbm, self.data, self.settings = lightgbm, data, settings
        self.booster: Booster | None = lightgbm.Booster(model_str=text) if text else None
        self.reads = False
        """Whether the booster has the rows, and can grow."""

    @property
    def trees(self) -> int:
        return self.booster.current_iteration() if self.booster else 0

    def grow(self) -> bool:
        """One tree more; False, and none, if no split is left that would gain anything."""
        before = self.trees
        seed = mixed(self.settings.seed, before) >> 1  # 31 bits
        if self.booster is None or not self.reads:
            self.booster, self.reads = self._first_here(seed), True
        else:
            self.booster.reset_parameter({SEED: seed})
            self.booster.update()
        if before == 0 and leaves(self.text()) == 1:
            raise self._nothing_to_split()
        return self.trees > before

    def _first_here(self, seed: int) -> "Booster":
        """With the rows, and one tree more: there is no other way to go on from a model."""
        rows = len(self.data.label["train"])
        log.info("putting %s rows of train into bins, before the first tree", f"{rows:,}")
        settings = parameters(self.settings)
        train, valid = (
            self.lightgbm.Dataset(
                self.data.read(split),
                self.data.label[split].astype(np.float32),
                feature_name=self.data.names,
                params=settings,
            )
            for split in ("train", "valid")
        )
        try:
            booster: Booster = self.lightgbm.train(
                settings,
                train,
                1,
                valid_sets=[valid.set_reference(train)],
                init_model=self.booster,
                keep_training_booster=True,
                callbacks=[self.lightgbm.reset_parameter(**{SEED: [seed]})],
            )
        except self.lightgbm.basic.LightGBMError as error:
            if NO_COLUMN not in str(error):
                raise
            raise self._nothing_to_split() from error
        return booster

    def _nothing_to_split(self) -> InputError:
        label = self.data.label["train"]
        return InputError(
            f"{paths.split_path('train')}: found no split of its {len(label):,} rows, of which "
            f"{int(label.sum()):,} are clicks, with {self.settings.lightgbm.min_rows} or more on "
            "either side; in params.yaml lower lightgbm.min_rows of what this stage trains"
        )

    def entry(self) -> dict[str, float]:
        """Of the curve: the loss on train, and the metrics of valid."""
        assert self.booster is not None
        label, user = self.data.label["valid"], self.data.user

        def metrics(probability: np.ndarray, _valid: Any) -> list[tuple[str, float, bool]]:
            found = measured(label, probability, user)
            return [(name, value, name != "logloss") for name, value in found.items()]

        [train] = self.booster.eval_train()
        valid = self.booster.eval_valid(metrics)
        return {
            "epoch": self.trees,
            "learning_rate": self.settings.lightgbm.learning_rate,
            "train_loss": float(train[2]),
            **{each[1]: float(each[2]) for each in valid if each[1] != train[1]},
        }

    def text(self, trees: int | None = None) -> str:
        """The first `trees` of them, or all, in LightGBM's own format."""
        assert self.booster is not None
        return self.booster.model_to_string(num_iteration=trees)


def leaves(text: str) -> int:
    """Of all trees of a model."""
    return sum(map(int, LEAVES.findall(text)))
