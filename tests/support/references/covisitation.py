"""What stage `companions` counts of train, one row and one pair at a time.

Shares no code with `ctr/covisitation`. A fold that is left out is a set of users here.
"""

from collections.abc import Collection, Mapping, Sequence
from math import log, sqrt
from typing import NamedTuple

import numpy as np

from pipeline.settings.ctr.companions import Companions
from pipeline.tables.split import Split

WAYS = ("mean_3", "mean_10", "mean", "max_10", "max", "last", "decayed")


class Pair(NamedTuple):
    later: int
    earlier: int
    user: int
    age: int
    """Items taken between the two."""


def youngest_first(history: np.ndarray) -> list[int]:
    """Its items, without the padding on the left."""
    return [int(item) for item in history[::-1] if item > 0]


def pairs_of_rows(train: Split, label: int, window: int) -> list[Pair]:
    """Of the rows with a label: the target with each of the last items of the history."""
    return [
        Pair(int(train.target[row]), item, int(train.user[row]), age)
        for row in range(len(train))
        if train.label[row] == label
        for age, item in enumerate(youngest_first(train.history[row])[:window])
    ]


def pairs_within_histories(train: Split, window: int) -> list[Pair]:
    """Of each user's first row: the history's items with each other."""
    found: list[Pair] = []
    seen: set[int] = set()
    for row in range(len(train)):
        user = int(train.user[row])
        if user not in seen:
            seen.add(user)
            items = youngest_first(train.history[row])
            for place, later in enumerate(items):
                older = items[place + 1 : place + 1 + window]
                found += [Pair(later, item, user, age) for age, item in enumerate(older)]
    return found


def weight(age: int, decay: float) -> float:
    """decay^age, to 20 binary places."""
    return float(np.round(decay**age * 2**20)) / 2**20


class Counted:
    """The summed weights of `pairs`, but those of the users `without`."""

    def __init__(self, pairs: Sequence[Pair], decay: float, without: Collection[int]) -> None:
        self.both: dict[tuple[int, int], float] = {}
        self.later: dict[int, float] = {}
        self.earlier: dict[int, float] = {}
        self.total = 0.0
        for pair in pairs:
            if pair.user not in without:
                w = weight(pair.age, decay)
                key = (pair.later, pair.earlier)
                self.both[key] = self.both.get(key, 0.0) + w
                self.later[pair.later] = self.later.get(pair.later, 0.0) + w
                self.earlier[pair.earlier] = self.earlier.get(pair.earlier, 0.0) + w
                self.total += w

    def information(
        self, later: int, earlier: int, items: int, smoothing: float, shrinkage: float
    ) -> float:
        """log((c + s p + m) / (w p + s p + m)); half a pair is given to each item, and padding."""
        share = (self.later.get(later, 0.0) + 0.5) / (self.total + 0.5 * (items + 1))
        c, w = self.both.get((later, earlier), 0.0), self.earlier.get(earlier, 0.0)
        assumed = smoothing * share + shrinkage
        return log((c + assumed) / (w * share + assumed))

    def has(self, item: int) -> bool:
        return item in self.later or item in self.earlier


def contrast(clicked: float, passed: float, rate: float, prior: float) -> float:
    """Log odds of the item after the other one, less those of the item."""
    after = (clicked + prior * rate) / (passed + prior * (1 - rate))
    return log(after) - log(rate / (1 - rate))


def pooled(values: Sequence[float], decay: float) -> dict[str, float]:
    """Of the items of a history, the youngest first; 0 where there is none."""
    if not values:
        return dict.fromkeys(WAYS, 0.0)
    weights = [decay**age for age in range(len(values))]
    return {
        "mean_3": sum(values[:3]) / len(values[:3]),
        "mean_10": sum(values[:10]) / len(values[:10]),
        "mean": sum(values) / len(values),
        "max_10": max(values[:10]),
        "max": max(values),
        "last": values[0],
        "decayed": sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights),
    }


class Rates:
    """Rows and clicks of items and of tags, but those of the users `without`."""

    def __init__(
        self, train: Split, tags: np.ndarray, prior: float, without: Collection[int]
    ) -> None:
        self.tags, self.prior = [[int(t) for t in row if t > 0] for row in tags], prior
        self.rows, self.clicks = [0] * len(tags), [0] * len(tags)
        self.tag_rows: dict[int, int] = {}
        self.tag_clicks: dict[int, int] = {}
        for row in range(len(train)):
            if int(train.user[row]) not in without:
                target, label = int(train.target[row]), int(train.label[row])
                self.rows[target] += 1
                self.clicks[target] += label
                for tag in self.tags[target]:
                    self.tag_rows[tag] = self.tag_rows.get(tag, 0) + 1
                    self.tag_clicks[tag] = self.tag_clicks.get(tag, 0) + label
        self.mean = (sum(self.clicks) + 0.5) / (sum(self.rows) + 1)

    def drawn(self, clicks: int, rows: int) -> float:
        return (clicks + self.prior * self.mean) / (rows + self.prior)

    def rate(self, item: int) -> float:
        return self.drawn(self.clicks[item], self.rows[item])

    def tag_rate(self, item: int) -> float:
        """The mean of its tags' rates; the mean rate where it has none."""
        tags = self.tags[item]
        rates = [self.drawn(self.tag_clicks.get(t, 0), self.tag_rows.get(t, 0)) for t in tags]
        return sum(rates) / len(rates) if rates else self.mean


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of vectors of length 1 or 0."""
    return sum(float(a) * float(b) for a, b in zip(one, other, strict=True))


def described(
    train: Split,
    tags: np.ndarray,
    unit: np.ndarray,
    section: Companions,
    target: int,
    history: np.ndarray,
    without: Collection[int],
) -> Mapping[str, float]:
    """The numbers of a row by their names."""
    items, window = len(tags) - 1, section.window
    clicked = pairs_of_rows(train, 1, window)
    taken = [*clicked, *pairs_within_histories(train, section.within)]
    read = youngest_first(history)[:window]
    found: dict[str, float] = {}

    def pool(name: str, values: Sequence[float]) -> None:
        found.update({f"{name}_{way}": x for way, x in pooled(values, section.decay).items()})

    flat, rates = Counted(taken, 1.0, without), Rates(train, tags, section.prior, without)
    is_new = not flat.has(target) and rates.rows[target] == 0
    for ending, decay, m in (("", section.decay, section.shrinkage), ("_flat", 1.0, 0.0)):
        counted = Counted(taken, decay, without)

        def information(
            later: int, earlier: int, counted: Counted = counted, m: float = m
        ) -> float:
            if is_new:
                return 0.0
            return counted.information(later, earlier, items, section.smoothing, m)

        pool(f"after{ending}", [information(target, i) for i in read])
        pool(f"before{ending}", [information(i, target) for i in read])
    found["known"] = sum((target, i) in flat.both for i in read) / max(len(read), 1)
    rate = rates.rate(target)
    of_clicked = Counted(clicked, 1.0, without).both
    of_passed = Counted(pairs_of_rows(train, 0, window), 1.0, without).both
    keys = [(target, item) for item in read]
    pool(
        "contrast",
        [contrast(of_clicked.get(k, 0), of_passed.get(k, 0), rate, section.prior) for k in keys],
    )
    found["clicks"], found["rows"] = log(1 + rates.clicks[target]), log(1 + rates.rows[target])
    found["rate"], found["tag_rate"] = rate, rates.tag_rate(target)
    found["length"] = log(1 + len(read))
    near = read[:20]
    total = [sum(float(unit[item][axis]) for item in near) for axis in range(unit.shape[1])]
    found["spread"] = sqrt(sum(x**2 for x in total)) / max(len(near), 1)
    pool("similarity", [cosine(unit[item], unit[target]) for item in near])
    return found
