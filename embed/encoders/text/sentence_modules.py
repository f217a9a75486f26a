"""What a sentence-transformers checkpoint says of itself: pooling, further layers, lengths, case.

Its modules.json lists what follows the transformer. What is known here is computed as that library
does; anything else is refused by name.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import normalize
from transformers.utils.hub import cached_file

from embed.encoders.pretrained import checkpoint_of, loading, named
from pipeline.common.files import InputError, some_of
from pipeline.settings.embed.text import EmbedText

find_file: Callable[..., str | None] = cached_file
TRANSFORMER = ("Transformer", "CLIPModel")
"""What comes first."""
POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    kind.__name__: kind for kind in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)
}


class Normalize(nn.Module):
    """To unit length."""

    def forward(self, vectors: Any) -> Any:
        return normalize(vectors, dim=-1)


@dataclass(frozen=True)
class SentenceModules:
    subfolder: str = ""
    """Of the transformer and its tokenizer."""
    pooling: str | None = None
    """None where the checkpoint does not say."""
    after: nn.Sequential = field(default_factory=nn.Sequential)
    """Pooled vectors (B, d) to the checkpoint's own (B, d')."""
    max_tokens: int | None = None
    lower: bool = False
    prompt: str = ""
    """Before every title."""


def sentence_modules(section: EmbedText) -> SentenceModules:
    """Raises InputError for a module or pooling that is not known here."""
    with loading("embed_text", section):
        modules = _json(section, "modules.json")
        if modules is None:
            return SentenceModules()
        subfolder = _transformer(section, modules)
        settings = _json(section, "sentence_bert_config.json", subfolder) or {}
        pooling, after = _following(section, modules[1:])
        return SentenceModules(
            subfolder,
            pooling,
            after,
            settings.get("max_seq_length"),
            bool(settings.get("do_lower_case")),
            _prompt(section),
        )


def _file(section: EmbedText, name: str, subfolder: str = "") -> Path | None:
    """None where the checkpoint has no such file, or the hub cannot be asked."""
    path = find_file(
        checkpoint_of("embed_text", section),
        name,
        subfolder=subfolder,
        revision=section.revision or "main",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if path is None else Path(path)


def _json(section: EmbedText, name: str, subfolder: str = "") -> Any:
    path = _file(section, name, subfolder)
    return None if path is None else json.loads(path.read_text(encoding="utf-8"))


def _kind(module: dict[str, Any]) -> str:
    return str(module["type"]).rpartition(".")[2]


def _transformer(section: EmbedText, modules: list[dict[str, Any]]) -> str:
    """The folder of the first module."""
    if not modules or _kind(modules[0]) not in TRANSFORMER:
        raise _refused(section, f"begins with {modules[0]['type'] if modules else 'nothing'}")
    return str(modules[0]["path"])


def _following(
    section: EmbedText, modules: list[dict[str, Any]]
) -> tuple[str | None, nn.Sequential]:
    pooling, after = None, nn.Sequential()
    for place, module in enumerate(modules):
        match _kind(module):
            case "Pooling" if place == 0:
                pooling = _pooling(section, str(module["path"]))
            case "Dense":
                after.extend(_dense(section, str(module["path"])))
            case "Normalize":
                after.append(Normalize())
            case _:
                raise _refused(section, f"has {module['type']} as step {place + 1}")
    return pooling, after.eval()


def _refused(section: EmbedText, what: str) -> InputError:
    return InputError(
        f"{named('embed_text', section)}, whose modules.json {what}; known are a transformer, then "
        f"Pooling ({', '.join(POOLINGS.values())}), Dense ({', '.join(ACTIVATIONS)}) and "
        "Normalize; name another model"
    )


def _pooling(section: EmbedText, folder: str) -> str:
    config = _json(section, "config.json", folder) or {}
    asked = [mode for mode, on in config.items() if mode.startswith("pooling_mode_") and on is True]
    if isinstance(config.get("pooling_mode"), str):  # as newer versions write it
        asked = [mode for mode, name in POOLINGS.items() if name == config["pooling_mode"]]
    if len(asked) != 1 or asked[0] not in POOLINGS or config.get("include_prompt") is False:
        raise _refused(section, f"pools in another way: {folder}/config.json has {config}")
    return POOLINGS[asked[0]]


def _dense(section: EmbedText, folder: str) -> list[nn.Module]:
    config = _json(section, "config.json", folder) or {}
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    names = (config.get("module_input_name"), config.get("module_output_name"))
    if activation not in ACTIVATIONS or not {*names} <= {None, "sentence_embedding"}:
        raise _refused(section, f"has another Dense: {folder}/config.json has {config}")
    path = _file(section, "model.safetensors", folder)
    if path is None:
        raise InputError(
            f"{named('embed_text', section)}, whose layer {folder} has no model.safetensors "
            "(pickled weights are not read); save it by sentence-transformers' own save"
        )
    layer = nn.Linear(config["in_features"], config["out_features"], config.get("bias", True))
    weights = {name.removeprefix("linear."): value for name, value in load_file(path).items()}
    if lacking := layer.state_dict().keys() - weights.keys():
        raise InputError(f"{named('embed_text', section)}: {path} lacks {some_of(lacking)}")
    layer.load_state_dict(weights)
    return [layer.float(), ACTIVATIONS[activation]()]


def _prompt(section: EmbedText) -> str:
    config = _json(section, "config_sentence_transformers.json") or {}
    return str((config.get("prompts") or {}).get(config.get("default_prompt_name"), ""))
