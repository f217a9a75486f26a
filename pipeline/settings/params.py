"""The settings in `params.yaml`, checked before any work: a section a stage, every key required."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.common.files import InputError
from pipeline.common.paths import (
    ENCODER,
    PARAMS,
    VectorFiles,
    content_files,
    encoder_section,
    model_section,
)
from pipeline.common.section import Section
from pipeline.settings.ctr.blend import Blend
from pipeline.settings.ctr.companions import Companions
from pipeline.settings.ctr.evaluate import Evaluate
from pipeline.settings.ctr.judge import Judge
from pipeline.settings.ctr.predict import Predict
from pipeline.settings.ctr.train import Train, overridden
from pipeline.settings.ctr.training import NUMBERS
from pipeline.settings.data import Data
from pipeline.settings.embed.align import Align
from pipeline.settings.embed.diagnose import Diagnose
from pipeline.settings.embed.encoder import Encoder
from pipeline.settings.embed.fuse import Fuse
from pipeline.settings.embed.image import EmbedImage
from pipeline.settings.embed.neighbors import Neighbors
from pipeline.settings.embed.text import EmbedText
from pipeline.settings.embed.vlm import EmbedVlm
from pipeline.settings.entries import ImageEncoders, Models, TextEncoders
from pipeline.settings.report import Report
from pipeline.settings.submit import Submit

SHARED = {
    "launch": "every entry is computed by {base}.launch",
    "local": "DVC watches {base}.local for every entry",
}
"""Keys of a stage that has several entries which are the same for all."""
T = TypeVar("T")


class Params(Section):
    """All of `params.yaml`."""

    data: Data
    encoder: Encoder
    text_encoders: TextEncoders
    embed_text: EmbedText
    image_encoders: ImageEncoders
    embed_image: EmbedImage
    embed_vlm: EmbedVlm
    align: Align
    fuse: Fuse
    neighbors: Neighbors
    diagnose: Diagnose
    companions: Companions
    models: Models
    train: Train
    judge: Judge
    predict: Predict
    blend: Blend
    evaluate: Evaluate
    submit: Submit
    report: Report

    @model_validator(mode="after")
    def _encoders_are_sound(self) -> Self:
        refuse(
            [
                *faults_of("embed_text", self.embed_text, "text_encoders", self.text_encoders),
                *faults_of("embed_image", self.embed_image, "image_encoders", self.image_encoders),
            ]
        )
        return self

    @model_validator(mode="after")
    def _encoder_is_trained_where_used(self) -> Self:
        for name, section in self.encoders_by_place().items():
            uses_trained = section.library == "open_clip" and section.model == "trained"
            if uses_trained and not self.encoder.train:
                raise ValueError(f"{name}.model is 'trained', so encoder.train must be true")
            if uses_trained and Path(section.local) != ENCODER:
                raise ValueError(
                    f"{name}.model is 'trained', so {name}.local must be {str(ENCODER)!r}, "
                    f"found {section.local!r}"
                )
        return self

    @model_validator(mode="after")
    def _aligned_vectors_fit(self) -> Self:
        learned = {self.fuse.recipe, self.fuse.task1} & {"align", "both", "learned"}
        if learned and self.align.dim + 1 > self.fuse.dim:
            raise ValueError(
                f"align.dim is {self.align.dim}, which with the appeal makes "
                f"{self.align.dim + 1} columns, but fuse.dim is {self.fuse.dim}"
            )
        return self

    @model_validator(mode="after")
    def _blended_models_are_sound(self) -> Self:
        refuse(faults_of("train", self.train, "models", self.models))
        return self

    @model_validator(mode="after")
    def _history_is_there(self) -> Self:
        for name, settings in self.ranking_models().items():
            if settings.history > self.data.history:
                section = f"models.{name}" if "history" in self.models[name] else "train"
                raise ValueError(
                    f"{section}.history is {settings.history}, "
                    f"but the data holds data.history = {self.data.history} items a row"
                )
        return self

    @model_validator(mode="after")
    def _numbers_are_there(self) -> Self:
        for name, settings in self.ranking_models().items():
            read = [kind for kind in NUMBERS if getattr(settings.features, kind)]
            if read and not self.companions.enabled:
                raise ValueError(
                    f"companions.enabled is false, but {model_section(name)}.features.{read[0]} "
                    "is true; set it to false, or enable them"
                )
        return self

    def ranking_models(self) -> dict[str, Train]:
        """The settings of every model that is trained, by name."""
        return {
            name: Train.model_validate(overridden(self.train.model_dump(), changes))
            for name, changes in self.models.items()
        }

    def ranking_model(self, name: str) -> Train:
        """Raises InputError for a name that the settings do not hold."""
        return named(self.ranking_models(), "models", name)

    def text_encoder(self, name: str) -> EmbedText:
        """Raises InputError for a name that the settings do not hold."""
        changes = named(self.text_encoders, "text_encoders", name)
        return EmbedText.model_validate(overridden(self.embed_text.model_dump(), changes))

    def image_encoder(self, name: str) -> EmbedImage:
        """Likewise."""
        changes = named(self.image_encoders, "image_encoders", name)
        return EmbedImage.model_validate(overridden(self.embed_image.model_dump(), changes))

    def encoders_by_place(self) -> dict[str, EmbedText | EmbedImage]:
        """The settings of every encoder, by where messages look for them."""
        titles = {
            encoder_section("text", name): self.text_encoder(name) for name in self.text_encoders
        }
        covers = {
            encoder_section("image", name): self.image_encoder(name) for name in self.image_encoders
        }
        return {**titles, **covers}

    def content_files(self) -> list[VectorFiles]:
        return content_files(self.text_encoders, self.image_encoders)

    def arguments(self, stage: str, model: str | None = None) -> tuple[Any, ...]:
        """What the `main` of a stage is called with: its own section, and what else it is told."""
        match stage, model:
            case "train", str():
                return self.ranking_model(model), model
            case "predict", str():
                self.ranking_model(model)  # or it is refused
                return self.predict, model
            case "blend", _:
                return self.blend, list(self.models)
            case "embed_text", str():
                return self.text_encoder(model), model
            case "embed_image", str():
                return self.image_encoder(model), model
            case (("align" | "fuse" | "report"), _):
                return getattr(self, stage), self.content_files()
            case "ingest", _:
                return (self.data,)
            case (("summary" | "package"), _):
                return ()
        return (getattr(self, stage),)


def named(entries: Mapping[str, T], section: str, name: str) -> T:
    """Raises InputError for a name that the section does not hold."""
    if name not in entries:
        raise InputError(
            f"--model {name}: {PARAMS} has no model of that name; {section} holds "
            f"{', '.join(entries)}"
        )
    return entries[name]


def refuse(faults: Sequence[str]) -> None:
    if faults:
        raise ValueError("\n  ".join(faults))


def faults_of(
    base: str, settings: Section, section: str, entries: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """What is wrong with the entries' changes to `settings`, which stand at `base`, a line each."""
    return [
        fault
        for name, changes in entries.items()
        for fault in faults_of_override(base, settings, f"{section}.{name}", changes)
    ]


def faults_of_override(
    base: str, settings: Section, section: str, changes: Mapping[str, Any]
) -> list[str]:
    for key, why in SHARED.items():
        if key in changes and hasattr(settings, key):
            return [f"{section}.{key}: {why.format(base=base)}; remove it here"]
    kind = type(settings)
    try:
        kind.model_validate(overridden(settings.model_dump(), changes))
    except ValidationError as error:
        return [_fault(dict(details), kind, section) for details in error.errors()]
    return []


def load_params(path: Path = PARAMS) -> Params:
    """Read and check all settings; every fault is reported in one InputError, by key and value."""
    try:
        content = deepcopy(parsed(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run from the repository's root") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected sections {', '.join(Params.model_fields)}")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        faults = "\n  ".join(_fault(dict(details), Params) for details in error.errors())
        raise InputError(f"{path}:\n  {faults}") from None


@lru_cache
def parsed(text: str) -> Any:
    """As DVC reads it, which takes a tenth of a second: the same text is read once."""
    return YAML(typ="safe", pure=True).load(text)


def _fault(details: dict[str, object], root: type[BaseModel], prefix: str = "") -> str:
    """One line for one of pydantic's findings: key, what is wrong, the value found.

    The key is the place in `root`, which stands at `prefix`.
    """
    location = details["loc"]
    assert isinstance(location, tuple)
    key = ".".join(str(part) for part in (prefix, *location) if part != "")
    match details["type"]:
        case "extra_forbidden":
            known = _known_keys(root, location[:-1])
            near = ", perhaps ".join(["", *get_close_matches(str(location[-1]), known, 1)])
            return f"{key}: unknown key{near}; known here: {', '.join(known)}"
        case "missing":
            return f"{key}: missing"
        case "value_error":
            told = str(details["msg"]).removeprefix("Value error, ")
            return f"{prefix}: {told}" if prefix else told
        case "string_pattern_mismatch" if location[-1] == "launch":
            return (
                f"{key}: expected '--num_processes N' first, then any of --multi_gpu, "
                "--num_machines N, --machine_rank N, --main_process_ip HOST, "
                "--main_process_port N, --gpu_ids N,N, --rdzv_backend NAME, --same_network, "
                f"found {details['input']!r}"
            )
        case _:
            return f"{key}: {details['msg']}, found {details['input']!r}"


def _known_keys(section: type[BaseModel], location: tuple[object, ...]) -> list[str]:
    for part in location:
        annotation = section.model_fields[str(part)].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    return list(section.model_fields)
