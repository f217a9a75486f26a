"""Titles to batches of tokens, and the models of open_clip and transformers that read them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from embed.encoders.open_clip_models import load_open_clip
from embed.encoders.text.transformers_text import Tokenize, Tokens, load_transformers
from embed.extraction.batches import Batch, even_spans
from embed.extraction.encoder import Encoder
from pipeline.common.files import InputError
from pipeline.settings.embed.text import EmbedText


@dataclass(frozen=True)
class TextEncoder:
    tokenize: Tokenize
    encoder: Encoder


class TitleShards(Dataset[list[Batch]]):
    """Entry i is the batches of the titles of shard `numbers[i]`."""

    def __init__(
        self,
        titles: list[str],
        runs: list[tuple[int, int]],
        numbers: list[int],
        tokenize: Tokenize,
        batch_size: int,
    ) -> None:
        self.titles = titles
        self.runs = runs
        self.numbers = numbers
        self.tokenize = tokenize
        self.batch_size = batch_size

    def __getitem__(self, place: int) -> list[Batch]:
        number = self.numbers[place]
        start, stop = self.runs[number]
        batches = self.tokenize(self.titles[start:stop], self.batch_size)
        return [Batch(number, (start + rows).astype(np.int32), tokens) for rows, tokens in batches]


def load_text_encoder(section: EmbedText, device: torch.device) -> TextEncoder:
    """Raises InputError if the model is unknown, unreachable or of a kind that gives no vectors."""
    if section.library == "open_clip":
        clip = load_open_clip("embed_text", section, device)
        tokenize = FixedLength(clip.tokenizer(), section.prompt)
        return TextEncoder(tokenize, clip.text_encoder(section))
    return TextEncoder(*load_transformers(section, device))


@dataclass(frozen=True)
class FixedLength:
    """open_clip's tokenizers, which pad to the model's context length themselves."""

    tokenizer: Callable[[list[str]], Tensor]
    prompt: str = ""

    def __call__(self, titles: list[str], batch_size: int) -> list[tuple[np.ndarray, Tokens]]:
        read = [self.prompt + title for title in titles]
        return [
            (np.arange(start, stop), {"text": self.tokenizer(read[start:stop]).numpy()})
            for start, stop in even_spans(0, len(read), batch_size)
        ]


def refuse_long_prompt(section: EmbedText, tokenize: Tokenize) -> None:
    """Raises InputError if a title's own tokens would be cut off after those of the prompt."""
    short, long = (tokenize([title], 1)[0][1] for title in ("a", "a a a a"))
    if all(np.array_equal(short[name], long[name]) for name in short):
        raise InputError(
            f"params.yaml: embed_text.prompt is {section.prompt!r}, which fills all tokens that "
            f"{section.model!r} reads, so that every title would have the same vector; make it "
            "shorter, or embed_text.max_tokens larger"
        )
