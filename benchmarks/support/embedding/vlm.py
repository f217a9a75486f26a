"""A Qwen2.5-VL of any size with random weights, made where it runs, for `bench_embed`."""

from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLVideoProcessor,
)

Sizes = dict[str, dict[str, Any]]
pictures: Any = getattr(transformers, "Qwen2VLImageProcessorPil", None)
pictures = pictures or transformers.Qwen2VLImageProcessor  # of earlier versions
ROPE = {"rope_type": "default", "rope_theta": 1_000_000.0}
SEVEN_BILLION: Sizes = {
    "text": {
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_parameters": {**ROPE, "mrope_section": [16, 24, 24]},
    },
    "vision": {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 3584,
        "window_size": 112,
        "fullatt_block_indexes": [7, 15, 23, 31],
    },
}
"""Those of Qwen2.5-VL-7B."""
SMALL: Sizes = {
    "text": {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {**ROPE, "mrope_section": [2, 3, 3]},
    },
    "vision": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": 64,
        "window_size": 112,
        "fullatt_block_indexes": [1],
    },
}
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
CONTROL += ["<|image_pad|>", "<|video_pad|>"]
CHAT = """{%- for message in messages -%}<|im_start|>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


def tokenizer() -> Any:
    """Reads byte by byte, so that a title is some four times as long as usual."""
    letters = sorted(ByteLevel.alphabet())
    made: Any = Qwen2Tokenizer(vocab={letter: i for i, letter in enumerate(letters)}, merges=[])
    made.add_special_tokens({"additional_special_tokens": CONTROL})
    made.pad_token = CONTROL[0]
    return made


def processor(tokens: Any, template: str | None = CHAT) -> Any:
    make: Callable[..., Any] = Qwen2_5_VLProcessor  # which comes without types
    return make(
        image_processor=pictures(),
        tokenizer=tokens,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=template,
    )


def model(sizes: Sizes, tokens: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """Without its language head, in evaluation; its weights lie on no disk."""
    place: Callable[[str], Any] = tokens.convert_tokens_to_ids
    config: Any = Qwen2_5_VLConfig(
        text_config=sizes["text"],
        vision_config=sizes["vision"],
        image_token_id=place("<|image_pad|>"),
        video_token_id=place("<|video_pad|>"),
        vision_start_token_id=place("<|vision_start|>"),
        vision_end_token_id=place("<|vision_end|>"),
    )
    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            made: Any = Qwen2_5_VLForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(usual)
    return made.base_model.eval()
