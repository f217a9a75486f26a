"""The settings in `params.yaml`, checked before any work: a section a stage, every key required."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.schema import InputError

PARAMS = Path("params.yaml")

Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Minutes = Annotated[float, Field(gt=0)]
"""Between checkpoints within an epoch; there is one after each epoch as well."""
Precision = Literal["no", "bf16", "fp16"]
CtrPrecision = Literal["no", "tf32", "bf16", "fp16"]
Residence = Literal["auto", "device", "file"]
Workers = Annotated[int, Field(ge=0, le=256)]

LAUNCH = (
    r"^--num_processes [1-9]\d*"
    r"( --(multi_gpu|num_machines [1-9]\d*|machine_rank \d+|main_process_ip [\w.:-]+"
    r"|main_process_port \d+|gpu_ids [\d,]+|rdzv_backend \w+|same_network))*$"
)
"""A flag that accelerate refuses would end the stage before it can say what is wrong."""
Launch = Annotated[str, Field(pattern=LAUNCH)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Data(Section):
    """`ingest`: which competition files, and their declared sizes."""

    source: Annotated[str, Field(min_length=1)]
    """`sample`, `microlens_1m` (downloaded once), or a folder in the raw layout."""
    history: Annotated[int, Field(ge=1, le=10_000)]
    """Item ids in every row's `item_seq`."""
    tags: Annotated[int, Field(ge=1, le=1_000)]
    """Tags kept an item; of a longer list the last ones."""
    seed: Seed
    """Of the sample's world; other sources have no use for it."""

    @field_validator("source")
    @classmethod
    def _is_no_address(cls, source: str) -> str:
        if "://" in source:  # not repeated, since addresses may hold passwords
            raise ValueError(
                "data.source: found an address; expected sample, microlens_1m or a folder"
            )
        return source


class Encoder(Section):
    """`encoder`: a small open_clip model, trained on the source's own (title, cover) pairs."""

    train: bool
    """False writes an empty model: for runs whose encoders are all pretrained."""
    embed_dim: Annotated[int, Field(ge=8, le=1024)]
    image_size: Annotated[int, Field(ge=16, le=512)]
    patch_size: Annotated[int, Field(ge=2, le=64)]
    image_width: Annotated[int, Field(ge=32, le=2048, multiple_of=32)]
    image_layers: Annotated[int, Field(ge=1, le=48)]
    text_width: Annotated[int, Field(ge=32, le=2048, multiple_of=32)]
    text_layers: Annotated[int, Field(ge=1, le=48)]
    context_length: Annotated[int, Field(ge=4, le=512)]
    """Tokens of a title that are read, start and end included."""
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Rate
    weight_decay: Annotated[float, Field(ge=0, lt=1)]
    seed: Seed

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.image_size % self.patch_size:
            raise ValueError("encoder.image_size must be a multiple of encoder.patch_size")
        return self


class Extraction(Section):
    """What the three embedding stages share."""

    batch_size: Count
    shard_size: Count
    """Items a shard: what a run that was killed has to do again at most, in each process."""
    workers: Workers
    """Processes that prepare batches for each process of the launch; 0 prepares them in it."""
    mixed_precision: Precision
    """Takes effect on a GPU."""
    launch: Launch
    """Flags of `accelerate launch` for this stage; shards are split over all processes."""


class EmbedText(Extraction):
    """`embed_text`: which model turns titles into vectors."""

    library: Literal["open_clip", "transformers", "given"]
    """`given`: the source's own `txt_emb_BERT`."""
    model: Annotated[str, Field(min_length=1)]
    """`trained` (the encoder stage's), an open_clip name, a hub id, or a local folder."""
    pretrained: str
    """open_clip's weights tag; empty where the model brings its own weights."""
    revision: str
    """Of a model from the hub: branch, tag or commit; empty for the newest."""
    pooling: Literal["mean", "cls"]
    """Of a transformers encoder's last hidden states."""
    max_tokens: Annotated[int, Field(ge=4, le=8192)]
    """Longer titles are cut; transformers only, open_clip models have a context of their own."""


class EmbedImage(Extraction):
    """`embed_image`: which model turns covers into vectors."""

    library: Literal["open_clip", "given"]
    """`given`: the source's own `img_emb_CLIPRN50`."""
    model: Annotated[str, Field(min_length=1)]
    """`trained` (the encoder stage's), or an open_clip name, `hf-hub:...` or `local-dir:...`."""
    pretrained: str
    """open_clip's weights tag; empty where the model brings its own weights."""
    revision: str
    """Of an `hf-hub:` model: branch, tag or commit; empty for the newest."""


class EmbedVlm(Extraction):
    """`embed_vlm`: a vision-language model's hidden states for title and cover together."""

    library: Literal["none", "transformers"]
    """`none` leaves the step out."""
    model: Annotated[str, Field(min_length=1)]
    """A hub id or a local folder."""
    revision: str
    """Branch, tag or commit; empty for the newest."""
    prompt: str
    """What the model reads after the cover; `{title}` stands for the title."""
    layer: Annotated[int, Field(ge=-1000, le=1000)]
    """Of the hidden states: 0 is the token embeddings, -1 the last layer, -2 the one before it."""
    pooling: Literal["mean", "last"]
    """Over the tokens of prompt and cover, or the last of them."""
    max_pixels: Annotated[int, Field(ge=784, le=16_777_216)]
    """Larger covers are scaled down to about so many."""

    @model_validator(mode="after")
    def _title_is_asked_for(self) -> Self:
        if "{title}" not in self.prompt:
            raise ValueError(f"embed_vlm.prompt: expected {{title}} in it, found {self.prompt!r}")
        return self


class Align(Section):
    """`align`: what of the clicks in train an item's content tells."""

    dim: Annotated[int, Field(ge=1, le=127)]
    """Columns of which items are clicked in the same company; the appeal takes one more."""
    window: Annotated[int, Field(ge=1, le=10_000)]
    """The last items of a history that a clicked target is paired with."""
    smoothing: Annotated[float, Field(gt=0)]
    """Pairs added to what was seen and to what was expected of two items."""
    prior: Annotated[float, Field(gt=0)]
    """Rows at the mean click rate added to each item's."""
    landmarks: Annotated[int, Field(ge=2, le=4096)]
    """Items that carry the kernel; exact where there are no more. Memory is about 30 bytes for each
    of them and each item of the catalogue: 6 GB for 2,048 of 91,717."""
    seed: Seed


class Fuse(Section):
    """`fuse`: one vector an item, for Task 1 and for the model of Task 2."""

    recipe: Literal["align", "pca", "both", "concat", "given"]
    """`align`: what content tells of behaviour. `pca`: of the features. `both`: one after the
    other. `concat`: the features as they are. `given`: the source's own `item_emb_d128`."""
    dim: Annotated[int, Field(ge=1, le=128)]
    """Task 1's rule allows 128."""


class Neighbors(Section):
    """`neighbors`: each item's nearest items by cosine."""

    enabled: bool
    k: Annotated[int, Field(ge=1, le=1024)]
    exact_below: Annotated[int, Field(ge=0)]
    """Catalogues of fewer items are searched exhaustively, larger ones by an inverted file."""
    seed: Seed


class Diagnose(Section):
    """`diagnose`: what the item embedding is worth before any model is trained."""

    k: Annotated[int, Field(ge=1, le=10_000)]
    """Items retrieved a row: recall at k."""
    window: Annotated[int, Field(ge=1, le=10_000)]
    """The last items of a history that describe it."""
    sample: Count
    """Rows whose targets are retrieved, and items whose duplicates are looked for, at most."""
    pairs: Count
    """Pairs of items whose distance is taken, at most."""
    near_duplicate: Annotated[float, Field(gt=0, lt=1)]
    """Cosine above which two items count as duplicates."""
    seed: Seed


class Features(Section):
    """What the model sees; switching one off replaces it by padding (for ablations)."""

    id: bool
    tags: bool
    content: bool
    levels: bool
    history: bool
    neighbors: bool


class Train(Section):
    """`train`: QIN and its training."""

    features: Features
    history: Annotated[int, Field(ge=1, le=10_000)]
    """The last items of each history that are read."""
    embedding_dim: Count
    attention_dim: Count
    layers: Annotated[int, Field(ge=1, le=64)]
    rows: Annotated[int, Field(ge=1, le=64)]
    """Khatri-Rao rows R of each QNN layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    embedding_regularizer: Annotated[float, Field(ge=0, lt=1)]
    """L2 of every embedding table and the multimodal linear map."""
    net_regularizer: Annotated[float, Field(ge=0, lt=1)]
    """L2 of all other weights; the paper has none."""
    learning_rate: Rate
    batch_size: Annotated[int, Field(ge=2)]
    """Of all processes together."""
    epochs: Count
    patience: Count
    """Epochs without a better valid AUC before training stops."""
    max_grad_norm: Annotated[float, Field(gt=0)]
    mixed_precision: CtrPrecision
    """Of matrix products; the weights are fp32. tf32 and fp16 need a GPU."""
    collapsed: bool
    """One dropout mask for the sum of a QNN layer's rows, not one a row: a quarter of the
    arithmetic, but not the published form."""
    residence: Residence
    """Where the clicks are read from: the memory of the device that trains, or the memory-mapped
    file; `auto` takes a GPU's memory where they fit into a quarter of what is free."""
    compile: bool
    """Whether `torch.compile` fuses the model's operations (a minute or more at the start)."""
    deterministic: bool
    """Refuse operations of a GPU that may give other bytes the next time; a CPU has none."""
    checkpoint_minutes: Minutes
    launch: Launch
    """Flags of `accelerate launch` for this stage; results depend on the number of processes."""
    seed: Seed


class Judge(Section):
    """`judge`: the organisers' DIN, which reads Task 1's file. They let five settings be tuned."""

    file: Annotated[str, Field(min_length=1)]
    """In the schema of `item_info.parquet`."""
    embedding_regularizer: Annotated[float, Field(ge=0, lt=1)]
    net_regularizer: Annotated[float, Field(ge=0, lt=1)]
    net_dropout: Annotated[float, Field(ge=0, lt=1)]
    learning_rate: Rate
    batch_size: Annotated[int, Field(ge=2)]
    """The last of the five; of all processes together."""
    rows: Annotated[int, Field(ge=0)]
    """The last rows of train that are read; 0 reads all, as the organisers do."""
    runs: Annotated[int, Field(ge=1, le=100)]
    """Trainings with seeds of their own, whose metrics are averaged."""
    epochs: Count
    patience: Count
    mixed_precision: CtrPrecision
    checkpoint_minutes: Minutes
    launch: Launch
    seed: Seed

    @property
    def max_grad_norm(self) -> float:
        return 10.0

    @model_validator(mode="after")
    def _a_batch_is_left(self) -> Self:
        if 0 < self.rows < self.batch_size:
            raise ValueError(
                f"judge.rows is {self.rows}, less than a batch of {self.batch_size} "
                "(judge.batch_size); 0 reads all rows"
            )
        return self


class Predict(Section):
    """`predict`: scoring valid and test."""

    batch_size: Count
    mixed_precision: CtrPrecision


class Evaluate(Section):
    """`evaluate`: how the metrics are cut."""

    calibration_bins: Annotated[int, Field(ge=2, le=1000)]
    short_history: Annotated[int, Field(ge=1, le=10_000)]
    """Histories of fewer items count as short."""


class Submit(Section):
    """`submit`: the leaderboard file."""

    column: Literal["Task1", "Task2", "Task1&2"]


class Report(Section):
    """`report`: the pictures in report/index.html."""

    map_items: Annotated[int, Field(ge=1, le=10_000)]
    """On the map; of a larger catalogue so many at random."""
    tile: Annotated[int, Field(ge=16, le=96)]
    """Pixels of a cover on the map, both ways."""
    perplexity: Annotated[float, Field(ge=2, le=500)]
    """t-SNE's: about how many near items shape an item's surroundings."""
    thumbnail: Annotated[int, Field(ge=32, le=256)]
    """Pixels of a cover on the sheets, both ways."""
    sheet_items: Annotated[int, Field(ge=1, le=200)]
    sheet_neighbors: Annotated[int, Field(ge=1, le=50)]
    """Of each item; no more than `neighbors.k` are there to be shown."""
    users: Annotated[int, Field(ge=1, le=20)]
    """Whose attention is shown."""
    attention_rows: Count
    """Rows of valid over which the attention's zeros are counted, at most."""
    seed: Seed


class Params(Section):
    """All of `params.yaml`."""

    data: Data
    encoder: Encoder
    embed_text: EmbedText
    embed_image: EmbedImage
    embed_vlm: EmbedVlm
    align: Align
    fuse: Fuse
    neighbors: Neighbors
    diagnose: Diagnose
    train: Train
    judge: Judge
    predict: Predict
    evaluate: Evaluate
    submit: Submit
    report: Report

    @model_validator(mode="after")
    def _encoder_is_trained_where_used(self) -> Self:
        for name, section in (("embed_text", self.embed_text), ("embed_image", self.embed_image)):
            uses_trained = section.library == "open_clip" and section.model == "trained"
            if uses_trained and not self.encoder.train:
                raise ValueError(f"{name}.model is 'trained', so encoder.train must be true")
        return self

    @model_validator(mode="after")
    def _aligned_vectors_fit(self) -> Self:
        if self.fuse.recipe in ("align", "both") and self.align.dim + 1 > self.fuse.dim:
            raise ValueError(
                f"align.dim is {self.align.dim}, which with the appeal makes "
                f"{self.align.dim + 1} columns, but fuse.dim is {self.fuse.dim}"
            )
        return self

    @model_validator(mode="after")
    def _history_is_there(self) -> Self:
        if self.train.history > self.data.history:
            raise ValueError(
                f"train.history is {self.train.history}, "
                f"but the data holds data.history = {self.data.history} items a row"
            )
        return self


def load_params(path: Path = PARAMS) -> Params:
    """Read and check all settings; every fault is reported in one InputError, by key and value."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run from the repository's root") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected sections {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        faults = "\n  ".join(_fault(dict(details)) for details in error.errors())
        raise InputError(f"{path}:\n  {faults}") from None


def _fault(details: dict[str, object]) -> str:
    """One line for one of pydantic's findings: key, what is wrong, the value found."""
    location = details["loc"]
    assert isinstance(location, tuple)
    key = ".".join(str(part) for part in location)
    match details["type"]:
        case "extra_forbidden":
            return f"{key}: unknown key; known here: {', '.join(_known_keys(location[:-1]))}"
        case "missing":
            return f"{key}: missing"
        case "value_error":
            return str(details["msg"]).removeprefix("Value error, ")
        case "string_pattern_mismatch" if location[-1] == "launch":
            return (
                f"{key}: expected '--num_processes N' first, then any of --multi_gpu, "
                "--num_machines N, --machine_rank N, --main_process_ip HOST, "
                "--main_process_port N, --gpu_ids N,N, --rdzv_backend NAME, --same_network, "
                f"found {details['input']!r}"
            )
        case _:
            return f"{key}: {details['msg']}, found {details['input']!r}"


def _known_keys(location: tuple[object, ...]) -> list[str]:
    section: type[BaseModel] = Params
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    return list(section.model_fields)
