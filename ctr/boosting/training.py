"""Training of boosted trees; as many of them are kept as have the best AUC on valid."""

import logging
import time
from dataclasses import dataclass
from types import ModuleType

from tqdm import tqdm

from ctr.boosting.forest import Forest, leaves
from ctr.boosting.rows import Data
from ctr.boosting.saved import Progress, Saved
from ctr.engine.loop import progress_line, refuse_one_class
from pipeline.common.outlook import A_WHILE, Watch, duration
from pipeline.settings.ctr.train import Train

SCORED, TOLD = 10, 50
"""Trees after which valid is scored, and a line is told."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grown:
    """What training gives, under the names that `Trained` has."""

    curve: list[dict[str, float]]
    """An entry for each time that valid was scored; its epoch is the number of trees then."""
    best_epoch: int
    text: str
    """Of the first `best_epoch` trees, in LightGBM's own format."""
    parameters: int
    """Leaves of these trees."""

    @property
    def at(self) -> str:
        return f"with {self.best_epoch} of {self.curve[-1]['epoch']} trees"


def grow(lightgbm: ModuleType, data: Data, settings: Train, saved: Saved | None = None) -> Grown:
    """Add trees until `patience` of them bring no better AUC on valid.

    With `saved` the run goes on from the last state, and leaves others as it goes.
    """
    refuse_one_class(data.label["valid"])
    progress = saved.restored() if saved else Progress()
    forest = Forest(lightgbm, data, settings, progress.text)
    told = Told(settings, len(data.label["train"]), forest.trees)
    with tqdm(
        total=settings.lightgbm.trees,
        initial=forest.trees,
        desc="trees",
        unit="tree",
        leave=False,
        disable=None,
    ) as bar:
        while not ended(progress, forest.trees, settings):
            progress.exhausted = not forest.grow()
            if is_scored(progress, forest.trees, settings):
                progress.curve.append(forest.entry())
            last = ended(progress, forest.trees, settings)
            told.after_tree(progress, forest.trees, last=last)
            bar.update(forest.trees - bar.n)
            if saved is not None:
                saved.after_tree(progress, forest, last=last)
    text = forest.text(progress.best)
    return Grown(progress.curve, progress.best, text, leaves(text))


def is_scored(progress: Progress, trees: int, settings: Train) -> bool:
    """Whether valid is due: every so many trees, and at the end."""
    last = progress.exhausted or trees == settings.lightgbm.trees
    return (last or trees % SCORED == 0) and trees > progress.scored


def ended(progress: Progress, trees: int, settings: Train) -> bool:
    enough = progress.exhausted or trees >= settings.lightgbm.trees
    return enough or progress.scored - progress.best >= settings.lightgbm.patience


class Told:
    """Lines of how training goes."""

    def __init__(self, settings: Train, rows: int, trees: int) -> None:
        self.rows, self.trees = rows, trees
        """Trees when the last line was told."""
        self.started = time.perf_counter()
        self.watch = Watch(settings.lightgbm.trees - trees, self._outlook, A_WHILE)

    def after_tree(self, progress: Progress, trees: int, *, last: bool) -> None:
        self.watch.after_batch()
        if progress.scored == trees > self.trees and (last or trees % TOLD == 0):
            now = time.perf_counter()
            rate = self.rows * (trees - self.trees) / (now - self.started)
            self.trees, self.started = trees, now
            best = progress.best == trees
            log.info(progress_line(progress.curve[-1], rate, best, "tree"))

    def _outlook(self, seconds: float) -> None:
        log.info("to the last tree it takes about %s, unless patience ends it", duration(seconds))
