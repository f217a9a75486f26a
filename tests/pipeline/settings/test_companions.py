"""The section `companions`, and what of it the models may read."""

from pathlib import Path

import pytest

from pipeline.common.files import InputError
from pipeline.settings.ctr.training import NUMBERS
from pipeline.settings.params import load_params
from tests.pipeline.settings.test_params import ROOT, changed, load


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("window", "0", "companions.window: .*greater than or equal to 1, found 0"),
        ("window", "9", "companions.within is 10, more than companions.window, 9"),
        ("within", "101", "companions.within is 101, more than companions.window, 100"),
        ("within", "-1", "companions.within: .*greater than or equal to 0, found -1"),
        ("decay", "0.0", "companions.decay: .*greater than 0, found 0"),
        ("decay", "1.1", "companions.decay: .*less than or equal to 1, found 1.1"),
        ("smoothing", "0.0", "companions.smoothing: .*greater than 0, found 0"),
        ("prior", "-1.0", "companions.prior: .*greater than 0, found -1"),
        ("folds", "1", "companions.folds: .*greater than or equal to 2, found 1"),
        ("folds", "51", "companions.folds: .*less than or equal to 50, found 51"),
        ("kept", "0", "companions.kept: .*greater than or equal to 1, found 0"),
    ],
)
def test_out_of_range(tmp_path: Path, key: str, value: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, changed("companions", key, value))


def test_as_many_within_histories_as_the_window_holds(tmp_path: Path) -> None:
    assert load(tmp_path, changed("companions", "within", "100")).companions.within == 100


def test_kinds_of_numbers_are_features_that_the_organisers_model_does_not_read() -> None:
    judged = load_params(ROOT / "params.yaml").judge.features.model_dump()
    assert {*NUMBERS} < {*judged}
    assert {name for name, on in judged.items() if on} == {*judged} - {*NUMBERS, "neighbors"}


def test_numbers_that_are_not_made_cannot_be_read(tmp_path: Path) -> None:
    text = changed("companions", "enabled", "false")
    message = r"companions.enabled is false, but train.features.companions is true; set it to"
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)
    for kind in NUMBERS:
        text = text.replace(f"\n    {kind}: true", f"\n    {kind}: false")
    assert not load(tmp_path, text).companions.enabled
    text = text.replace("\n  trees: {", "\n  a: {features: {target: true}}\n  trees: {")
    with pytest.raises(InputError, match=r"but models.a.features.target is true"):
        load(tmp_path, text)
