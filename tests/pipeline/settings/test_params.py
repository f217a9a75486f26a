from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.common.files import InputError
from pipeline.settings.params import Params, load_params

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = (ROOT / "params.yaml").read_text()


def load(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return load_params(path)


FIRST_KEYS = "embedding_regularizer, net_regularizer, learning_rate"
"""Of section `train`."""


def changed(section: str, key: str, value: str) -> str:
    """The settings with one line of one section replaced; None of the others is touched."""
    head, found, tail = SETTINGS.partition(f"\n{section}:\n" if section != "data" else "data:\n")
    assert found
    lines = tail.split("\n")
    place = next(i for i, line in enumerate(lines) if line.startswith(f"  {key}:"))
    lines[place] = f"  {key}: {value}"
    return head + found + "\n".join(lines)


def test_the_files_in_the_repository_are_valid() -> None:
    assert load_params(ROOT / "params.yaml").data.source == "sample"
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        load_params(recipe)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("train", "learning_rate", "-1", "train.learning_rate: .*greater than 0, found -1"),
        ("train", "learning_rate", "fast", "train.learning_rate: .*number, found 'fast'"),
        ("train", "dropout", "1.0", "train.dropout: .*less than 1, found 1.0"),
        ("train", "batch_size", "1", "train.batch_size: .*greater than or equal to 2, found 1"),
        ("train", "epochs", "3.5", "train.epochs: .*integer, found 3.5"),
        (
            "train",
            "mixed_precision",
            "fp8",
            "train.mixed_precision: .*'no', 'tf32', 'bf16' or 'fp16'",
        ),
        ("train", "history", "101", "train.history is 101, .* data.history = 100"),
        ("train", "max_grad_norm", ".inf", "train.max_grad_norm: .*finite number, found inf"),
        ("train", "launch", "--num_processes two", "train.launch: .*'--num_processes two'"),
        ("train", "launch", "--num_procesess 2", "train.launch: expected '--num_processes N'"),
        ("embed_image", "launch", "-n 2", "embed_image.launch: expected '--num_processes N' first"),
        (
            "embed_vlm",
            "prompt",
            "what?",
            r"embed_vlm.prompt: expected \{title\} in it, found 'what",
        ),
        ("fuse", "dim", "129", "fuse.dim: .*less than or equal to 128, found 129"),
        (
            "fuse",
            "recipe",
            "pcs",
            "fuse.recipe: .*'align', 'pca', 'both', 'concat' or 'given', found 'pcs'",
        ),
        ("fuse", "recipe", "learned", "fuse.recipe: .* or 'given', found 'learned'"),
        (
            "fuse",
            "dim",
            "16",
            "align.dim is 16, which with the appeal makes 17 .* fuse.dim is 16",
        ),
        ("align", "dim", "0", "align.dim: .*greater than or equal to 1, found 0"),
        ("align", "dim", "128", "align.dim: .*less than or equal to 127, found 128"),
        ("align", "window", "0", "align.window: .*greater than or equal to 1, found 0"),
        ("align", "smoothing", "0.0", "align.smoothing: .*greater than 0, found 0"),
        ("align", "prior", "-1.0", "align.prior: .*greater than 0, found -1"),
        ("align", "landmarks", "1", "align.landmarks: .*greater than or equal to 2, found 1"),
        ("train", "numbers_dim", "0", "train.numbers_dim: .*greater than or equal to 1, found 0"),
        ("train", "model", "din", "train.model: .*'transformer_dcn' or 'lightgbm', found 'din'"),
        ("blend", "min_gain", "-0.1", "blend.min_gain: .*greater than or equal to 0, found -0.1"),
        ("judge", "file", '""', "judge.file: .*at least 1 character"),
        ("judge", "net_dropout", "1.0", "judge.net_dropout: .*less than 1, found 1.0"),
        ("judge", "rows", "-1", "judge.rows: .*greater than or equal to 0, found -1"),
        ("judge", "runs", "0", "judge.runs: .*greater than or equal to 1, found 0"),
        ("judge", "batch_size", "1", "judge.batch_size: .*greater than or equal to 2, found 1"),
        ("judge", "launch", "-n 2", "judge.launch: expected '--num_processes N' first"),
        ("submit", "column", "Task3", "submit.column: .*'Task1', 'Task2' or 'Task1&2'"),
        ("data", "source", '""', "data.source: .*at least 1 character"),
        ("encoder", "train", "false", "embed_text.model is 'trained', so encoder.train"),
        ("embed_image", "local", "w", "embed_image.local must be 'models/encoder', found 'w'"),
        ("embed_vlm", "local", '""', "embed_vlm.local: .*at least 1 character"),
        ("encoder", "patch_size", "15", "encoder.image_size must be a multiple"),
    ],
)
def test_out_of_range(tmp_path: Path, section: str, key: str, value: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, changed(section, key, value))


@pytest.mark.parametrize(
    ("recipe", "task1"), [("align", "pca"), ("both", "pca"), ("pca", "align"), ("pca", "learned")]
)
def test_aligned_columns_and_the_appeal_must_fit(tmp_path: Path, recipe: str, task1: str) -> None:
    text = changed("fuse", "recipe", recipe).replace("\n  dim: 128", "\n  dim: 17")
    text = text.replace("\n  task1: learned", f"\n  task1: {task1}")
    assert load(tmp_path, text).fuse.dim == load(tmp_path, text).align.dim + 1
    with pytest.raises(InputError, match=r"makes 17 columns, but fuse\.dim is 16"):
        load(tmp_path, text.replace("\n  dim: 17", "\n  dim: 16"))


def test_aligned_columns_that_are_not_used_need_not_fit(tmp_path: Path) -> None:
    text = changed("fuse", "recipe", "pca").replace("\n  dim: 128", "\n  dim: 8")
    text = text.replace("\n  task1: learned", "\n  task1: concat")
    assert load(tmp_path, text).fuse.dim == 8


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    text = changed("train", "learning_rate", "0").replace("  patience:", "  patiense:")
    with pytest.raises(InputError) as error:
        load(tmp_path, text + "\ntrane: {}\n")
    message = str(error.value)
    assert "train.learning_rate" in message
    assert "train.patience: missing" in message
    assert f"train.patiense: unknown key, perhaps patience; known here: {FIRST_KEYS}" in message
    assert "trane: unknown key, perhaps train; known here: data, encoder" in message


def test_unknown_key_of_a_nested_section(tmp_path: Path) -> None:
    text = SETTINGS.replace("    levels: true\n", "    levels: true\n    price: true\n")
    with pytest.raises(
        InputError, match=r"train\.features\.price: unknown key, perhaps profile; known"
    ):
        load(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "expected sections data"), ("- 1", "expected sections"), ("a: [", "not valid YAML")],
)
def test_not_settings_at_all(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found; run from the repository's root"):
        load_params(tmp_path / "params.yaml")


def test_launch_flags_for_several_machines(tmp_path: Path) -> None:
    flags = "--num_processes 16 --multi_gpu --num_machines 2 --machine_rank 1 --main_process_ip a.b"
    assert load(tmp_path, changed("train", "launch", flags)).train.launch == flags


def test_yaml_reads_exponents_as_dvc_does(tmp_path: Path) -> None:
    params = load(tmp_path, changed("train", "learning_rate", "2e-3"))
    assert params.train.learning_rate == 0.002


def test_every_section_is_a_stage() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    of_several = {"models", "text_encoders", "image_encoders"}
    sections = set(Params.model_fields) - {"data"} - of_several | {"ingest", "package", "summary"}
    assert sections == set(stages)


def test_an_address_is_no_source_and_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data.source: found an address; expected") as error:
        load(tmp_path, changed("data", "source", "https://me:s3cret@host/files"))
    assert "s3cret" not in str(error.value)


def test_a_tilde_in_the_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.source: found ~/raw, whose ~ DVC .*whole path"):
        load(tmp_path, changed("data", "source", "~/raw"))


def test_a_source_among_the_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.source: found data/raw, inside data/, which DVC"):
        load(tmp_path, changed("data", "source", "data/raw"))


TREES = "trees: {model: lightgbm}"
"""The second of the settings' own models."""


def with_models(models: str) -> str:
    """The settings with these models, in YAML's flow style, beside the first."""
    return changed("models", "main", "{}\n  " + models)


def test_a_blended_model_is_train_with_its_own_changes(tmp_path: Path) -> None:
    text = with_models("rows_3: {rows: 3}\n  other: {features: {id: false}, learning_rate: 1e-3}")
    params = load(tmp_path, text)
    models, train = params.ranking_models(), params.train
    assert list(models) == ["main", "rows_3", "other", "trees"]
    assert models["main"] == train
    assert models["rows_3"] == train.model_copy(update={"rows": 3})
    features = train.features.model_copy(update={"id": False})
    changes = {"features": features, "learning_rate": 0.001}
    assert models["other"] == train.model_copy(update=changes)
    assert params.ranking_model("rows_3") == models["rows_3"]


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--model rows_4: .*models holds main, rows_3, trees$"):
        load(tmp_path, with_models("rows_3: {rows: 3}")).ranking_model("rows_4")
    with pytest.raises(InputError, match=r"--model rows_4: .*models holds main, trees$"):
        load(tmp_path, SETTINGS).ranking_model("rows_4")


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            "a: {row: 3}",
            rf"models.a.row: unknown key, perhaps rows; known here: {FIRST_KEYS}",
        ),
        ("a: {rows: 0}", r"models.a.rows: .*greater than or equal to 1, found 0"),
        (
            "a: {features: {ids: true}}",
            r"models.a.features.ids: unknown key, perhaps id; .*: id, tags",
        ),
        ("a: {launch: --num_processes 2}", r"models.a.launch: every .* train.launch; rem"),
        ("a: {history: 101}", r"models.a.history is 101, .* data.history = 100"),
        ("a: {transformer_dcn: {width: 33}}", r"models.a: .*width is 33; .* which are 2"),
        (
            "a: {model: lightgbm, features: {levels: false, companions: false, contrast: false, "
            "target: false, profile: false, similarity: false}}",
            r"models.a: train.features switches off all that lightgbm reads; set .*, levels",
        ),
        ("a: {lightgbm: {bins: 256}}", r"models.a.lightgbm.bins: .*or equal to 255, found 256"),
        ("a: 3", r"models.a: Input should be a valid dictionary, found 3"),
        ("encoder: {}", r"models: found the name 'encoder'; .* and not 'encoder'"),
        ("Rows: {}", r"models: found the name 'Rows'; expected lower-case letters"),
        ("3: {}", r"models.3"),
    ],
)
def test_faults_of_a_blended_model(tmp_path: Path, models: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(tmp_path, with_models(models))


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("{other: {}}", r"models: found no 'main', the model that is reported on; add it"),
        ("[]", r"models: Input should be a valid dictionary"),
        ("{main: {history: 101}}", r"models.main.history is 101, .* data.history = 100"),
    ],
)
def test_the_first_model_is_there(tmp_path: Path, models: str, message: str) -> None:
    text = SETTINGS.replace(f"models:\n  main: {{}}\n  {TREES}", f"models: {models}")
    assert text != SETTINGS
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)


def test_every_fault_of_every_blended_model_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load(tmp_path, with_models("a: {rows: 0, row: 3}\n  b: {epochs: 0}"))
    for key in ("models.a.rows", "models.a.row", "models.b.epochs"):
        assert f"\n  {key}: " in str(error.value)


def test_the_width_is_shared_by_the_heads(tmp_path: Path) -> None:
    text = SETTINGS.replace("    width: 32", "    width: 33")
    message = r"train.transformer_dcn.width is 33; expected a multiple of its heads, which are 2"
    with pytest.raises(InputError, match=message):
        load(tmp_path, text)
