"""Qwen3-VL, SmolVLM, Idefics3 and InternVL of some ten thousand weights, as they are published.

Their tokenizers read byte by byte; control tokens, chat templates and the way from a cover to its
tokens are the families' own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from benchmarks.support.embedding.vlm import CHAT
from benchmarks.support.embedding.vlm import tokenizer as qwen_tokenizer
from tests.support.worlds.tiny_vlm import LAYERS, WIDTH

TEXT = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
VISION = {"hidden_size": 16, "intermediate_size": 24}
TILE = {"longest_edge": 32}
TILES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
IDEFICS_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}"
    "{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
INTERN_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    model: Any
    processor: Any
    """transformers' own classes."""
    make: Callable[[], tuple[Any, dict[str, Any]]]
    """A configuration, and what the processor is made of."""
    chat_template: str
    control: str
    """What a title must not be able to say, a cover's place first."""

    def save(self, folder: Path, **changes: Any) -> Path:
        """Lay a checkpoint out in `folder`; `changes` are to what the processor is made of."""
        config, parts = self.make()
        torch.manual_seed(0)
        model = self.model(config)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
        parts = {"chat_template": self.chat_template, **parts, **changes}
        self.processor(**parts).save_pretrained(folder)
        return folder


@dataclass(frozen=True)
class Checkpoint:
    name: str
    family: Family
    folder: Path

    def processor(self) -> Any:
        return self.family.processor.from_pretrained(self.folder)

    def model(self) -> Any:
        return self.family.model.from_pretrained(self.folder)


def byte_tokenizer(control: list[str], pad: str, begin: str | None = None) -> Any:
    """Byte by byte, with a family's control tokens; each text starts with `begin`."""
    letters = {letter: place for place, letter in enumerate(sorted(ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocab=letters, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    make: Callable[..., Any] = PreTrainedTokenizerFast  # which comes without types
    made = make(tokenizer_object=backend, model_input_names=["input_ids", "attention_mask"])
    made.add_special_tokens({"additional_special_tokens": control})
    made.pad_token = pad
    if begin is not None:
        made.bos_token = begin
        place = made.convert_tokens_to_ids(begin)
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, place)]
        )
    return made


def qwen3_vl() -> tuple[Any, dict[str, Any]]:
    """Two of its three vision layers also reach deeper into the text model (deepstack)."""
    tokens = qwen_tokenizer()
    place: Any = tokens.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
    text = TEXT | {"vocab_size": len(tokens), "head_dim": 8, "rope_parameters": rope}
    vision = VISION | {"depth": 3, "num_heads": 2, "out_hidden_size": WIDTH}
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision
        | {"deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16, "patch_size": 16},
        image_token_id=place("<|image_pad|>"),
        video_token_id=place("<|video_pad|>"),
        vision_start_token_id=place("<|vision_start|>"),
        vision_end_token_id=place("<|vision_end|>"),
    )
    size = {"shortest_edge": 64 * 64, "longest_edge": 1024 * 1024}
    return config, {
        "image_processor": Qwen2VLImageProcessor(patch_size=16, size=size),
        "tokenizer": tokens,
        "video_processor": Qwen3VLVideoProcessor(),
    }


def smolvlm() -> tuple[Any, dict[str, Any]]:
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<fake_token_around_image>"]
    control += ["<image>", "<end_of_utterance>", "<global-img>", *TILES]
    tokens = byte_tokenizer(control, pad="<|im_end|>")
    tokens.bos_token = "<|im_start|>"
    return tiled(SmolVLMConfig, tokens), {
        "image_processor": SmolVLMImageProcessor(size={"longest_edge": 64}, max_image_size=TILE),
        "tokenizer": tokens,
        "video_processor": SmolVLMVideoProcessor(),
        "image_seq_len": 4,
    }


def idefics3() -> tuple[Any, dict[str, Any]]:
    """Its tokenizer starts each text with the token that the chat template starts with too."""
    control = ["<|begin_of_text|>", "<|pad|>", "<fake_token_around_image>"]
    control += ["<image>", "<end_of_utterance>", "<global-img>", *TILES]
    tokens = byte_tokenizer(control, pad="<|pad|>", begin="<|begin_of_text|>")
    return tiled(Idefics3Config, tokens), {
        "image_processor": Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size=TILE),
        "tokenizer": tokens,
        "image_seq_len": 4,
    }


def tiled(kind: Any, tokens: Any) -> Any:
    """Tiles of 32 x 32 pixels, each of which becomes 4 tokens."""
    pad = tokens.pad_token_id
    vision = VISION | {"num_hidden_layers": 2, "num_attention_heads": 2}
    return kind(
        text_config=TEXT | {"model_type": "llama", "vocab_size": len(tokens), "pad_token_id": pad},
        vision_config=vision | {"image_size": 32, "patch_size": 8},
        scale_factor=2,
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        pad_token_id=pad,
    )


def internvl() -> tuple[Any, dict[str, Any]]:
    """Tiles of 28 x 28 pixels, each of which becomes 4 tokens."""
    named = {
        "context_image_token": "<IMG_CONTEXT>",
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "video_token": "<video>",
    }
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate(letters)}
    tokens: Any = Qwen2Tokenizer(vocab=vocabulary, merges=[], extra_special_tokens=named)
    control = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *named.values()]
    tokens.add_tokens(control, special_tokens=True)
    tokens.pad_token = control[0]
    tokens.padding_side = "left"
    vision = VISION | {"num_hidden_layers": 2, "num_attention_heads": 2}
    config = InternVLConfig(
        text_config=TEXT | {"model_type": "qwen2", "vocab_size": len(tokens)},
        vision_config=vision | {"image_size": 28, "patch_size": 7},
        image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    return config, {
        "image_processor": GotOcr2ImageProcessor(size={"height": 28, "width": 28}),
        "tokenizer": tokens,
        "video_processor": InternVLVideoProcessor(),
        "image_seq_length": 4,
    }


FAMILIES = {
    "qwen3_vl": Family(
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        qwen3_vl,
        CHAT,
        "<|image_pad|> <|video_pad|> <|vision_start|> <|im_start|> <|im_end|>",
    ),
    "smolvlm": Family(
        SmolVLMForConditionalGeneration,
        SmolVLMProcessor,
        smolvlm,
        "<|im_start|>" + IDEFICS_TEMPLATE,
        "<image> <video> <fake_token_around_image> <row_1_col_1> <|im_end|> <end_of_utterance>",
    ),
    "idefics3": Family(
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
        idefics3,
        "<|begin_of_text|>" + IDEFICS_TEMPLATE,
        "<image> <fake_token_around_image> <global-img> <|begin_of_text|> <end_of_utterance>",
    ),
    "internvl": Family(
        InternVLForConditionalGeneration,
        InternVLProcessor,
        internvl,
        INTERN_TEMPLATE,
        "<IMG_CONTEXT> <img> </img> <video> <|im_start|> <|im_end|>",
    ),
}
