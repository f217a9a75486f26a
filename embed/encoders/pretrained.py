"""transformers' checkpoints: loaded whole, or refused in one message."""

import hashlib
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from embed.encoders.local_files import place_of
from pipeline.common.files import InputError, some_of
from pipeline.settings.embed.extraction import Extraction

log = logging.getLogger(__name__)
hide_progress: Callable[[], None] = transformers_logging.disable_progress_bar
get_verbosity: Callable[[], int] = transformers_logging.get_verbosity
set_verbosity: Callable[[int], None] = transformers_logging.set_verbosity
"""transformers' own functions, which come without types."""


@contextmanager
def loading(stage: str, section: Extraction) -> Iterator[None]:
    """For loading `section.model` by transformers, whose own table of weights is hidden, as are its
    bars without a terminal.

    Raises InputError, naming the stage's settings, for what transformers cannot load.
    """
    if not sys.stderr.isatty():
        hide_progress()
    verbosity = get_verbosity()
    set_verbosity(logging.ERROR)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the files of a checkpoint can be wrong in any way
        usual = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
        told = str(error) if isinstance(error, usual) else f"{type(error).__name__}: {error}"
        raise InputError(
            f"{named(stage, section)}, {stage}.revision {section.revision!r}: transformers cannot "
            f"load it (code from the hub is not run, weights must be safetensors): {told}"
        ) from error
    finally:
        set_verbosity(verbosity)


def named(stage: str, section: Extraction) -> str:
    """How every message about a checkpoint begins."""
    return f"params.yaml: {stage}.model is {section.model!r}"


def checkpoint_of(stage: str, section: Extraction) -> str:
    """The hub's name of the section's checkpoint, or its folder on this disk."""
    return place_of(stage, "model", section.model)


def origin(section: Extraction) -> dict[str, Any]:
    return {"revision": section.revision or "main", "trust_remote_code": False}


def load_whole(
    stage: str, section: Extraction, load: Callable[..., Any], unused: str, **options: Any
) -> Any:
    """The model that `load`, a `from_pretrained`, makes of the section's checkpoint.

    `unused` matches, from their beginning, names of weights that the stage does not compute with:
    these may be missing, and are zero then rather than random. Raises InputError for other weights
    that are missing or of another shape, and for layers that the configuration has no place for.
    """
    with loading(stage, section):
        model, found = load(
            checkpoint_of(stage, section),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # else an error that names nothing
            **origin(section),
            **options,
        )
    unread = found["unexpected_keys"]
    _refuse_random(stage, section, found, unused)
    if surplus := of_further_layers(unread, model):
        raise InputError(
            f"{named(stage, section)}, whose files hold layers that its config.json has no place "
            f"for, {some_of(surplus)}: they would be left out; put the config.json beside them "
            "that belongs to these weights"
        )
    with torch.no_grad():
        for name in found["missing_keys"]:
            model.state_dict()[name].zero_()
    if unread:
        log.info("%s: of %s nothing needs %s", stage, section.model, some_of(unread))
    return model


def _refuse_random(stage: str, section: Extraction, found: dict[str, Any], unused: str) -> None:
    missing = [name for name in found["missing_keys"] if not re.match(unused, name)]
    if missing:
        unread = found["unexpected_keys"]
        hint = f"; the files hold {some_of(unread)}, which nothing reads" if unread else ""
        raise InputError(
            f"{named(stage, section)}, whose files lack weights, {some_of(missing)}: they would be "
            f"random{hint}; fetch them again, or save them by transformers' save_pretrained"
        )
    if mismatched := sorted(found["mismatched_keys"]):
        name, held, expected = mismatched[0]
        raise InputError(
            f"{named(stage, section)}, whose files hold weights of other shapes than its "
            f"config.json says, {some_of([each[0] for each in mismatched])}: {name} is "
            f"{tuple(held)}, expected {tuple(expected)}; fetch both again"
        )


def of_further_layers(unread: Iterable[str], model: nn.Module) -> list[str]:
    """Weights that differ from some of the model's only in the numbers of their layers."""

    def kind(name: str) -> str:
        return re.sub(r"(^|\.)\d+(?=\.)", r"\1#", name)

    own = {kind(name) for name in model.state_dict() if kind(name) != name}
    return [name for name in unread if own & {kind(name), kind(name).partition(".")[2]}]


def load_tokenizer(stage: str, section: Extraction, subfolder: str) -> Any:
    """Raises InputError where the checkpoint has none."""
    with loading(stage, section):
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint_of(stage, section), subfolder=subfolder, **origin(section)
        )
    check_vocabulary(stage, section, tokenizer)
    return tokenizer


def check_vocabulary(stage: str, section: Extraction, tokenizer: Any) -> None:
    """Without its files transformers makes a tokenizer to which every word is unknown."""
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise InputError(
            f"{named(stage, section)}, which has no tokenizer: its files hold no vocabulary "
            "(tokenizer.json, vocab.txt, tokenizer.model, ...); put the tokenizer's files beside "
            "the weights"
        )


def config_sha256(config: Any, tokenizer: Any) -> str:
    """A digest of a transformers model's configuration and of its tokenizer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    tokens = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab()))
    content = config.to_json_string() + tokens + str(tokenizer.pad_token_id)
    return hashlib.sha256(content.encode()).hexdigest()


def commit_of(stage: str, section: Extraction, model: Any) -> str:
    """The hub's commit, else the section's revision; where that is left open it is told."""
    commit = getattr(model.config, "_commit_hash", None)
    if commit and not section.revision:
        log.info(
            "%s: %s is read as of commit %s; a newer one goes unseen unless %s.revision names it",
            *(stage, section.model, commit, stage),
        )
    return str(commit or section.revision)
