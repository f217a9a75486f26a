"""What a stage waits for before it begins: the packages that its file imports at once.

By name and not by seconds, which differ from machine to machine: torch takes two on a fast one.
"""

import pytest

from tests.support.code.graph import graph
from tests.support.code.imports import packages_at_once
from tests.whole.test_architecture import entry

QUICK = {
    *("PIL", "cycler", "huggingface_hub", "jinja2", "numpy", "platformdirs", "psutil", "pyarrow"),
    *("pydantic", "requests", "safetensors", "threadpoolctl", "tqdm", "urllib3"),
}
"""A few tenths of a second each, or less."""
NETWORK = {"accelerate", "torch"}
CONTRASTIVE = {*NETWORK, "open_clip"}  # which imports timm and transformers, where they are there
BUDGET = {
    "ingest": set(),
    "encoder": CONTRASTIVE,
    "embed_text": {*CONTRASTIVE, "transformers"},
    "embed_image": {*CONTRASTIVE, "timm", "transformers"},
    "embed_vlm": set(),
    "align": {"scipy"},
    "fuse": {"pandas"},
    "neighbors": {"faiss"},
    "diagnose": {"faiss"},
    "companions": {"scipy"},
    "train": {*NETWORK, "pandas"},
    "package": set(),
    "judge": NETWORK,
    "predict": {*NETWORK, "pandas"},
    "blend": {"pandas", "scipy"},
    "evaluate": {"pandas"},
    "summary": set(),
    "submit": {"pandas", "torch"},
    "report": {*NETWORK, "faiss", "matplotlib", "pandas", "scipy", "sklearn"},
}
"""The slow ones. What settings may switch off is imported where it is needed."""


@pytest.mark.parametrize("stage", graph())
def test_a_stage_imports_no_more_than_it_needs(stage: str) -> None:
    assert packages_at_once(entry(stage)) - QUICK == BUDGET[stage]
