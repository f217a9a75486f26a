"""Contrastive training of a small CLIP on (title, cover) pairs, and how well it retrieves."""

import functools
import logging
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from open_clip import CLIP, ClipLoss
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn
from tqdm import tqdm

from embed.encoders.pixels import normalize
from embed.extraction.encoder import best_device
from pipeline.common.outlook import Watch, duration
from pipeline.settings.embed.encoder import Encoder

MAX_LOGIT_SCALE = math.log(100)
WARMUP = 0.1
"""The share of all steps in which the learning rate rises."""

PARTS = 2
"""Of a batch on a CPU, each read by a thread of its own. A model so small gains less from threads
that share its products, and as many parts everywhere round alike."""

SHIFT = 16
"""Covers move by up to 1/16 of their side; they are not mirrored, which would mirror text."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pairs:
    """Titles and covers by item: row i of `pixels` and `tokens` belongs to item i."""

    pixels: np.ndarray
    """uint8 (N + 1, 3, S, S), memory-mapped."""
    tokens: Tensor
    """int64 (N + 1, T)."""
    preprocess: PreprocessCfg

    def normalized(self, pixels: Tensor) -> Tensor:
        return normalize(pixels, self.preprocess.mean, self.preprocess.std)


def train(model: CLIP, pairs: Pairs, items: np.ndarray, section: Encoder) -> float:
    """Train `model` in place on the pairs of `items`; the mean loss of the last epoch.

    The same seed and number of threads give the same weights on a CPU; a GPU rounds as it likes.
    """
    device = best_device()
    model.to(device).train()
    words = Words(model, pairs.tokens[torch.from_numpy(items)])
    pairs = replace(pairs, tokens=words.places(pairs.tokens))
    steps = section.epochs * _batch_count(len(items), section.batch_size)
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, section), lr=section.learning_rate, fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(step, steps)
    )
    mean_loss = math.nan
    watch = Watch(steps, lambda seconds: tell_expected(seconds, section.epochs))
    with ThreadPoolExecutor(PARTS, "part", _compute_with, (torch.get_num_threads(),)) as threads:
        batches = InParts(model, pairs, threads)
        for epoch in range(section.epochs):
            losses = []
            for images, tokens in progress(_epoch(pairs, items, section, epoch), len(items), epoch):
                optimizer.zero_grad()
                losses.append(batches.backward(images.to(device), tokens.to(device)))
                words.decay(optimizer)
                optimizer.step()
                scheduler.step()
                with torch.no_grad():
                    model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
                watch.after_batch()
            mean_loss = torch.stack(losses).mean().item()
            log.info("epoch %d of %d: loss %.4f", epoch + 1, section.epochs, mean_loss)
    words.put_back()
    return mean_loss


class Words:
    """The rows of a model's table of tokens that titles use, which is all that training moves.

    Nine tenths of a small CLIP are that table; of the rows of tokens that no title has AdamW makes
    what its decay of the weights leaves. `model` has the used rows alone until `put_back`.
    """

    def __init__(self, model: CLIP, tokens: Tensor) -> None:
        """`tokens` int64 (n, T) are those of the titles that are trained on."""
        self.model = model
        self.table = model.token_embedding
        weight = self.table.weight.detach()
        self.used = tokens.unique()  # ascending, so the last token of a title stays the largest
        rows = weight[self.used.to(weight.device)]
        model.token_embedding = nn.Embedding.from_pretrained(rows, freeze=False)
        self.rows = model.token_embedding.weight
        self.left = 1.0

    def places(self, tokens: Tensor) -> Tensor:
        """Rows of the smaller table; of a token that it lacks any."""
        return torch.searchsorted(self.used, tokens).clamp_(max=len(self.used) - 1)

    def decay(self, optimizer: torch.optim.AdamW) -> None:
        """Before a step, which decays the others' rows as it does these."""
        (group,) = (x for x in optimizer.param_groups if any(p is self.rows for p in x["params"]))
        self.left *= 1 - group["lr"] * group["weight_decay"]

    @torch.no_grad()
    def put_back(self) -> None:
        self.table.weight.mul_(self.left)
        self.table.weight[self.used.to(self.rows.device)] = self.rows
        self.model.token_embedding = self.table


def _compute_with(threads: int) -> None:
    """In the calling thread alone."""
    torch.get_num_threads()  # the first call in a thread sets what any has
    torch.set_num_threads(threads)


class InParts:
    """The loss of a batch, whose towers read it in parts, forwards and back, at the same time.

    Between the two the loss needs the vectors of all. A GPU, which is parallel itself, reads the
    batch whole.
    """

    def __init__(self, model: CLIP, pairs: Pairs, threads: Executor) -> None:
        self.model = model
        self.pairs = pairs
        self.threads = threads
        self.loss_of = ClipLoss()
        self.towers = [x for x in model.parameters() if x is not model.logit_scale]

    def backward(self, images: Tensor, tokens: Tensor) -> Tensor:
        """The mean loss of pixels (B, 3, S, S) and tokens (B, T), whose gradients it leaves."""
        parts = PARTS if images.device.type == "cpu" else 1
        read = list(self.threads.map(self.vectors, images.chunk(parts), tokens.chunk(parts)))
        whole = [torch.cat(side).detach().requires_grad_() for side in zip(*read, strict=True)]
        loss: Tensor = self.loss_of(*whole, self.model.logit_scale.exp())
        loss.backward()
        slopes = [side.grad.chunk(parts) for side in whole if side.grad is not None]
        found = list(self.threads.map(self.gradients, read, zip(*slopes, strict=True)))
        for parameter, *gradients in zip(self.towers, *found, strict=True):
            parameter.grad = functools.reduce(torch.add, gradients)
        return loss.detach()

    def vectors(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors (b, d) of both."""
        image = self.model.encode_image(self.pairs.normalized(images), normalize=True)
        return image, self.model.encode_text(tokens, normalize=True)

    def gradients(
        self, vectors: tuple[Tensor, Tensor], slopes: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, ...]:
        """Of the towers, from the slopes (b, d) of the loss by their vectors."""
        return torch.autograd.grad(vectors, self.towers, slopes)


def tell_expected(seconds: float, epochs: int) -> None:
    log.info(
        "an epoch takes about %s, %d of them %s",
        duration(seconds / epochs),
        epochs,
        duration(seconds),
    )


def progress(
    batches: Iterable[tuple[Tensor, Tensor]], pairs: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """A bar, where there is a terminal."""
    with tqdm(
        total=pairs, desc=f"epoch {epoch + 1}", unit="pair", leave=False, disable=None
    ) as bar:
        for images, tokens in batches:
            yield images, tokens
            bar.update(len(images))


def _batch_count(pairs: int, batch_size: int) -> int:
    return max(1, round(pairs / batch_size))


def _epoch(
    pairs: Pairs, items: np.ndarray, section: Encoder, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of nearly equal size, shuffled anew by (seed, epoch): pixels and tokens."""
    random = np.random.default_rng([section.seed, epoch])
    shuffled = random.permutation(items)
    for batch in np.array_split(shuffled, _batch_count(len(items), section.batch_size)):
        images = shifted(pairs.pixels[batch], random)
        yield torch.from_numpy(images), pairs.tokens[torch.from_numpy(batch)]


def shifted(pixels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Each picture moved by its own few pixels, its edge repeated; (B, 3, S, S) as it came."""
    side = pixels.shape[-1]
    most = side // SHIFT
    moves = random.integers(-most, most + 1, size=(2, len(pixels))) + most
    padded = np.pad(pixels, ((0, 0), (0, 0), (most, most), (most, most)), mode="edge")
    moved = np.empty_like(pixels)
    for picture, whole, row, column in zip(moved, padded, *moves, strict=True):
        picture[:] = whole[:, row : row + side, column : column + side]
    return moved


def learning_rate(step: int, steps: int) -> float:
    """Relative to the highest: a linear rise, then a cosine down to zero."""
    warmup = max(1, int(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _parameter_groups(model: nn.Module, section: Encoder) -> list[dict[str, object]]:
    """Weight decay for matrices only: not for biases, norms and the logit scale."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": section.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


@torch.inference_mode()
def embed(model: CLIP, pairs: Pairs, items: np.ndarray, batch: int) -> tuple[Tensor, Tensor]:
    """Unit image and text vectors of `items`, (n, d) each, on the CPU."""
    model.eval()
    device = next(model.parameters()).device
    images, texts = [], []
    batches = np.array_split(items, -(-len(items) // batch))
    for rows in tqdm(batches, "encoding", unit="batch", leave=False, disable=None):
        pixels = pairs.normalized(torch.from_numpy(pairs.pixels[rows]).to(device))
        images.append(model.encode_image(pixels, normalize=True).cpu())
        tokens = pairs.tokens[torch.from_numpy(rows)].to(device)
        texts.append(model.encode_text(tokens, normalize=True).cpu())
    return torch.cat(images), torch.cat(texts)


def recall(images: Tensor, texts: Tensor, true: Tensor, k: int) -> float:
    """The share of images (n, d) whose true text is among their k nearest of `texts` (m, d).

    `true` (n,) holds rows of `texts`. A text as near as the true one counts as nearer, so that a
    model that maps all to one point scores nothing.
    """
    similarity = images @ texts.T  # (n, m)
    own = similarity.gather(1, true[:, None])  # (n, 1)
    return ((similarity >= own).sum(1) <= k).float().mean().item()
