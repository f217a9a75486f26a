"""Covers to vectors by the image encoders of timm: any name that it knows, a repository of the hub,
a folder, or a name with a file of weights on this disk."""

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL.Image import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from timm.models import load_state_dict
from torch import Tensor

from embed.encoders.image.image_encoder import try_cover
from embed.encoders.local_files import check_watched, place_of
from embed.encoders.pixels import arranged, normalize
from embed.extraction.encoder import Encoder, autocast, effective_precision, weights_sha256
from pipeline.common.files import InputError, some_of, versions
from pipeline.settings.embed.image import EmbedImage

STAGE = "embed_image"
FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
CLASSIFIER = re.compile(r"(^|\.)(head|fc|classifier)\.(.*\.)?weight$")
COUNTER = "num_batches_tracked"
"""Of batch normalisation's state; evaluation does not read it, and old files lack it."""
KINDS = {"weight", "bias", "running_mean", "running_var"}
BUILDER = "timm.models._builder"
"""The logger that tells which weights a file did not hold."""

log = logging.getLogger(__name__)
data_configuration: Callable[..., dict[str, Any]] = resolve_model_data_config
"""timm's own function, which comes without types: sizes, interpolation, cropping, mean and std."""


class TimmPixels:
    """The model's own evaluation preprocessing up to its last step: uint8 (3, S, S)."""

    def __init__(self, data: dict[str, Any]) -> None:
        """`data` is the model's data configuration: sizes, interpolation, cropping."""
        self.transform: Any = create_transform(**data, is_training=False, normalize=False)

    def __call__(self, image: Image) -> np.ndarray:
        return np.asarray(self.transform(image))


def load_timm(section: EmbedImage, device: torch.device) -> tuple[TimmPixels, Encoder]:
    """Raises InputError for an unknown model, and for weights that are missing or do not fit."""
    with telling_of(section):
        name = timm_name(section)
        model = _with_weights(name, section).eval()
        arranged(model.to(device), device)
        data = data_configuration(model)

    @torch.inference_mode()
    def forward(inputs: dict[str, Tensor]) -> Tensor:
        with autocast(device, section.mixed_precision):
            pixels = normalize(inputs["pixels"], data["mean"], data["std"])
            return vectors_of(model, pixels, section.pooling)

    pixels = TimmPixels(data)
    try_cover(f"{named(section)}, {STAGE}.pooling {section.pooling!r}", pixels, forward, device)
    config = {"architecture": model.pretrained_cfg.get("architecture"), **data}
    provenance = {
        "encoder": f"timm {section.model}",
        "pretrained": section.pretrained,
        "revision": section.revision,
        "weights_sha256": weights_sha256(model),
        "config_sha256": hashlib.sha256(json.dumps(config).encode()).hexdigest(),
        "pooling": section.pooling,
        "mixed_precision": effective_precision(device, section.mixed_precision),
        "versions": versions("timm", "torch", "torchvision", "pillow"),
    }
    return pixels, Encoder(STAGE, section.model, forward, device, provenance)


@contextmanager
def telling_of(section: EmbedImage) -> Iterator[None]:
    """For loading by timm, whose own log of each step is hidden.

    Raises InputError, naming the stage's settings, for what timm cannot load.
    """
    steps = logging.getLogger("timm")
    level = steps.level
    steps.setLevel(logging.WARNING)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the files of a checkpoint can be wrong in any way
        usual = isinstance(error, RuntimeError | ValueError | OSError)
        told = str(error) if usual else f"{type(error).__name__}: {error}"
        first = "; ".join(line.strip() for line in told.splitlines()[:2])
        raise InputError(f"{named(section)}: timm cannot load it: {first}") from error
    finally:
        steps.setLevel(level)


def named(section: EmbedImage) -> str:
    return (
        f"params.yaml: {STAGE}.model is {section.model!r}, {STAGE}.pretrained "
        f"{section.pretrained!r}, {STAGE}.revision {section.revision!r}"
    )


def timm_name(section: EmbedImage) -> str:
    """The model as timm reads it; checks what can be checked before anything is loaded."""
    source, _, place = section.model.rpartition(":")
    if source and section.pretrained:
        raise InputError(
            f"{named(section)}: a {source} model brings its own weights; leave {STAGE}.pretrained "
            "empty"
        )
    if section.revision and source != "hf-hub":
        raise InputError(
            f"{named(section)}: it has no revisions; write hf-hub:<organisation>/<name>, or leave "
            f"{STAGE}.revision empty"
        )
    if source == "local-dir":
        if not Path(place).is_dir():
            raise InputError(f"{named(section)}: there is no folder {place}")
        check_watched(STAGE, "model", place, section.local)
    if source:
        return f"{section.model}@{section.revision}" if section.revision else section.model
    if not timm.is_model(place.partition(".")[0]):
        near = get_close_matches(place, timm.list_models(pretrained=True), 5, 0.5)
        raise InputError(
            f"{named(section)}: timm {timm.__version__} knows no such model; near it are "
            f"{', '.join(near) or 'none'} (all: timm.list_models())"
        )
    if section.pretrained:
        check_file(section)
    return place


def check_file(section: EmbedImage) -> None:
    path = Path(place_of(STAGE, "pretrained", section.pretrained))
    if not path.is_file():
        raise InputError(
            f"{named(section)}: there is no file {path}; name one on this disk, or leave "
            f"{STAGE}.pretrained empty for the weights that timm has of this name"
        )
    if path.suffix not in FILES:
        raise InputError(f"{named(section)}: {path} is none of {', '.join(FILES)}")
    check_watched(STAGE, "pretrained", section.pretrained, section.local)


def _with_weights(name: str, section: EmbedImage) -> Any:
    """The model without its classifier.

    It is loaded with one, if its weights have one: without, timm would let any weight be missing.
    """
    if section.pretrained:
        model = from_file(name, section)
    else:
        with nothing_missing(section):
            model = timm.create_model(name, pretrained=True)
    model.reset_classifier(0)
    return model


@contextmanager
def nothing_missing(section: EmbedImage) -> Iterator[None]:
    """Raises InputError if weights would stay random, which timm allows in some families."""
    missing: list[str] = []
    unread: list[str] = []

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            for start, names in (("Missing keys (", missing), ("Unexpected keys (", unread)):
                if record.getMessage().startswith(start):
                    names += record.getMessage().removeprefix(start).partition(")")[0].split(", ")

    builder, handler = logging.getLogger(BUILDER), Told()
    level, propagate = builder.level, builder.propagate
    builder.setLevel(logging.INFO)
    builder.propagate = False
    builder.addHandler(handler)
    try:
        yield
    finally:
        builder.removeHandler(handler)
        builder.setLevel(level)
        builder.propagate = propagate
    if missing:
        raise InputError(
            f"{named(section)}: its files lack weights, {some_of(missing)}: they would stay as "
            "they begin, most of them random; fetch the files again, or name another model"
        )
    if unread:
        log.warning("%s: of %s nothing reads %s", STAGE, section.model, some_of(unread))


def from_file(name: str, section: EmbedImage) -> Any:
    """By the names of the weights, as timm converts its families' files; else by their places."""
    file = place_of(STAGE, "pretrained", section.pretrained)
    weights = load_state_dict(file, weights_only=True)
    errors = []
    for classes in classes_of(weights):
        overlay = {"file": file, "num_classes": classes, "label_offset": 0}
        overlay["custom_load"] = False
        try:
            with nothing_missing(section):
                return timm.create_model(
                    name, pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay
                )
        except (RuntimeError, InputError) as error:
            errors.append(error)
    # A safetensors file holds its weights by name, and not in the order of the model.
    for classes in [] if file.endswith(".safetensors") else classes_of(weights):
        model = timm.create_model(name, num_classes=classes)
        if (found := by_place(model.state_dict(), weights)) is not None:
            model.load_state_dict(model.state_dict() | found)
            log.warning(
                "%s: no weight in %s has a name of timm's %s: all %d are read by their place, "
                "since their shapes are the same in the same order",
                *(STAGE, section.pretrained, name, len(found)),
            )
            return model
    raise errors[0]


def classes_of(weights: dict[str, Tensor]) -> list[int]:
    """How many classes the last layer may have; 0 is none.

    By the weights of a classifier's name, and else the last matrix.
    """
    classifiers = [value for name, value in weights.items() if CLASSIFIER.search(name)]
    last = [len(value) for value in classifiers if value.ndim > 1]
    last += [len(value) for value in weights.values() if value.ndim == 2][-1:]
    return list(dict.fromkeys([*last, 0]))


def by_place(own: dict[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """`weights` under the names of `own`, if they have none of them, and the same shapes.

    What both call a `weight`, a `bias` or a running statistic has to be the same in both.
    """
    names, values = (
        [*(each for each in pair if not each[0].endswith(COUNTER))]
        for pair in (own.items(), weights.items())
    )
    if own.keys() & weights.keys() or len(names) != len(values):
        return None
    found = {}
    for (name, value), (other, weight) in zip(names, values, strict=True):
        kinds = {name.rpartition(".")[2], other.rpartition(".")[2]}
        if value.shape != weight.shape or (len(kinds) > 1 and kinds <= KINDS):
            return None
        found[name] = weight
    return found


def vectors_of(model: Any, pixels: Tensor, pooling: str) -> Tensor:
    """float32 (B, 3, S, S) to (B, d): by the model's own pooling, or from what it pools.

    `mean` is that of all places but those before the patches, `cls` the first of these.
    """
    if pooling == "model":
        return model(pixels)
    found = model.forward_features(pixels)  # (B, T, d), (B, d, h, w), or (B, h, w, d)
    if found.ndim == 4:
        places = (1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else (2, 3)
        if pooling == "cls":
            raise ValueError("it has a map of the cover and no class token")
        return found.mean(places)
    before = getattr(model, "num_prefix_tokens", 0)
    if pooling == "mean":
        return found[:, before:].mean(1)
    if not getattr(model, "has_class_token", before > 0):
        raise ValueError("it has no class token")
    return found[:, 0]
