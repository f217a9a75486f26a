"""QIN's scoring graph as a file that torch runs without this project:
`python -m serving.export --to scoring.pt2`.

Takes the history, int64 (L,) padded on the left to train.history items, and of one or more
candidates their ids and levels, int64 (C,) each, and what stage `companions` tells of them, float32
(C, F). Ids are dense: an item's row in items.parquet. Gives logits (C,).

    program = torch.export.load("scoring.pt2").module()
    probability = program(history, candidates, likes, views, numbers).sigmoid()
"""

import argparse
import sys
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from pipeline.common.files import InputError, replacing
from serving.rankers import Folded
from serving.scorer import DEFAULT, Scorer

EXAMPLE = 3
"""Candidates; any number other than 0 and 1, which torch would take for fixed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, default=DEFAULT, help=f"({DEFAULT})")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="ends in .pt2")
    options = parser.parse_args()
    try:
        if options.to.suffix != ".pt2":
            raise InputError(f"--to {options.to}: expected a name that ends in .pt2")
        program = exported(Scorer.load(options.package))
        with replacing(options.to) as path, path.open("wb") as file:
            torch.export.save(program, file)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{options.to}: {options.to.stat().st_size / 1e6:.1f} MB")


def exported(scorer: Scorer) -> ExportedProgram:
    """Raises InputError for a model that is no QIN."""
    if not isinstance(scorer.ranker, Folded):
        raise InputError(
            f"{scorer.folder}: has a model of another kind; expected QIN, which alone has a graph "
            "that reads the history once"
        )
    numbers = len(scorer.numbers.standard.columns) if scorer.numbers else 0
    levels = torch.zeros(EXAMPLE, dtype=torch.int64)
    example = (
        torch.zeros(max(1, scorer.length), dtype=torch.int64),
        torch.arange(1, EXAMPLE + 1).clamp(max=len(scorer)),
        levels,
        levels.clone(),
        torch.zeros(EXAMPLE, numbers),
    )
    candidates = Dim("candidates", min=1)
    shapes = (None, *({0: candidates} for _ in range(4)))
    with torch.no_grad():
        program = torch.export.export(scorer.ranker.model, example, dynamic_shapes=shapes)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # the file is given away, with this machine's paths
    return program


if __name__ == "__main__":
    main()
