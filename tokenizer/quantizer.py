"""Mask Channel Residual Vector Quantization (MCRVQ), with plain RVQ as the case of no masked book.

Source: Language-Codec (arXiv 2402.12208, section 3.2). The first M books quantize, in parallel, one slice
of the latent's channels each, all other channels hidden; book M + 1 quantizes what their sum leaves over,
and the rest are ordinary residual stages. There is one path, `assign`, for training and for encoding.

Codebooks are exponential moving averages of the vectors assigned to them (van den Oord et al. 2017,
appendix A.1), in float32 whatever the autocast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from .blocks import linear
from .prepared import Prepared, packed

EMA_DECAY = 0.99
# A code whose average count falls under this share of the mean count starts anew from the batch. A share,
# not a number: a fixed count would restart codes for ever when a batch holds few frames.
RESTART_SHARE = 0.05
_CHUNK = 1 << 14  # vectors whose distances are held at once


def _smallest(distances: Tensor) -> Tensor:
    """Index of the smallest of each row `[N, V]`, int64 `[N]`.

    Minima of columns vectorise where an `argmin` of rows does not: a quarter of its time on a CPU.
    """
    columns = distances.unflatten(-1, (math.gcd(distances.shape[-1], 32), -1))
    column = columns.amin(1).argmin(-1)
    place = column[:, None, None].expand(-1, columns.shape[1], 1)
    return columns.gather(2, place)[..., 0].argmin(-1) * columns.shape[2] + column


@dataclass
class Quantized:
    """What `MaskedChannelQuantizer.forward` returns.

    Attributes:
        latent: `[B, T, D]`, straight-through sum of the used books.
        codes: int64 `[B, K, T]`.
        commitment_loss: Scalar, mean squared distance of what each book saw to what it chose.
    """

    latent: Tensor
    codes: Tensor
    commitment_loss: Tensor


class MaskedChannelQuantizer(nn.Module):
    """K codebooks of V entries over a latent of D channels, the first `num_masked` on slices.

    Args:
        latent_size: D.
        num_codebooks: K.
        codebook_size: V.
        num_masked: M, books that work in parallel on channel slices; 0 for plain RVQ.
    """

    codebooks: Tensor
    counts: Tensor
    sums: Tensor
    is_initialised: Tensor

    def __init__(
        self, latent_size: int, num_codebooks: int, codebook_size: int, num_masked: int
    ) -> None:
        super().__init__()
        self.num_codebooks, self.codebook_size, self.num_masked = (
            num_codebooks,
            codebook_size,
            num_masked,
        )
        shape = (num_codebooks, codebook_size, latent_size)
        self.register_buffer("codebooks", torch.randn(shape) / latent_size**0.5)
        self.register_buffer("counts", torch.ones(num_codebooks, codebook_size))
        self.register_buffer("sums", self.codebooks.clone())
        self.register_buffer("is_initialised", torch.tensor(True))
        self._search: list[Prepared[tuple[Tensor, Tensor]]] = [
            Prepared() for _ in range(num_codebooks)
        ]
        cuts = [latent_size * m // max(1, num_masked) for m in range(num_masked + 1)]
        self.slices = [slice(cuts[m], cuts[m + 1]) for m in range(num_masked)]
        with torch.no_grad():
            for book, channels in enumerate(self.slices):
                hidden = torch.ones(latent_size, dtype=torch.bool)
                hidden[channels] = False
                self.codebooks[book, :, hidden] = 0
                self.sums[book, :, hidden] = 0

    def channels(self, book: int) -> slice:
        """The channels that a book sees."""
        return self.slices[book] if book < self.num_masked else slice(None)

    def nearest(self, book: int, vectors: Tensor) -> Tensor:
        """Index of the nearest entry for each float32 `[N, D]`, int64 `[N]`."""
        seen = self.channels(book)

        def search(codebooks: Tensor) -> tuple[Tensor, Tensor]:
            # squared distances, less what is the same for all entries
            entries = codebooks[book, :, seen]
            return packed(-2 * entries), entries.square().sum(-1)

        weight, norms = self._search[book](search, self.codebooks)
        found = [_smallest(linear(part[:, seen], weight, norms)) for part in vectors.split(_CHUNK)]
        return torch.cat(found) if found else vectors.new_zeros(0, dtype=torch.long)

    def assign(self, latent: Tensor, num_books: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Choose codes: masked books from the latent itself, then residual books.

        Args:
            latent: float32 `[N, D]`.
            num_books: Books to use, at least M.

        Returns:
            Codes `[num_books, N]`, each book's input `[N, D]`, each book's choice `[N, D]`.
        """
        residual = latent
        codes, inputs, choices = [], [], []
        for book in range(num_books):
            # Masked books take from `residual` too: their slices do not overlap, so that each one still
            # sees its own channels of the latent untouched, and what is left over is the residual.
            index = self.nearest(book, residual.detach())
            choice = F.embedding(index, self.codebooks[book])
            codes.append(index)
            inputs.append(residual)
            choices.append(choice)
            residual = residual - choice
        return (
            torch.stack(codes) if codes else latent.new_zeros(0, len(latent), dtype=torch.long),
            inputs,
            choices,
        )

    def encode(self, latent: Tensor, mask: Tensor, num_books: int) -> Tensor:
        """Codes int64 `[B, num_books, T]` of `[B, T, D]`; 0 where the mask bool `[B, T, 1]` is false."""
        found, _, _ = self.assign(latent.float().flatten(0, 1), num_books)
        codes = found.unflatten(1, latent.shape[:2]).transpose(0, 1)
        return codes * mask[..., 0][:, None]

    def decode(self, codes: Tensor) -> Tensor:
        """Sum of the chosen entries: codes `[B, k, T]` -> float32 `[B, T, D]`."""
        total = F.embedding(codes[:, 0], self.codebooks[0])
        for book in range(1, codes.shape[1]):
            total = total + F.embedding(codes[:, book], self.codebooks[book])
        return total

    def forward(self, latent: Tensor, mask: Tensor, num_books: Tensor | int) -> Quantized:
        """Quantize, and in training mode update the codebooks.

        Args:
            latent: `[B, T, D]`.
            mask: bool `[B, T, 1]`; other frames get code 0 and take no part in the averages.
            num_books: Books whose sum is returned, an int or one number an item `[B]`. All codes up
                to the largest are computed.

        Returns:
            `Quantized`; before the codebooks are initialised the latent passes unchanged.
        """
        batch, frames, width = latent.shape
        most = num_books if isinstance(num_books, int) else int(num_books.max())
        if not bool(self.is_initialised):
            codes = torch.zeros(batch, most, frames, dtype=torch.long, device=latent.device)
            return Quantized(latent, codes, latent.new_zeros(()))
        with torch.autocast(latent.device.type, enabled=False):
            valid = mask[..., 0]
            vectors = latent.float()[valid]
            found, inputs, choices = self.assign(vectors, most)
            if self.training:
                self._update(found, inputs)
            counts = (
                torch.as_tensor(num_books, device=latent.device)
                .expand(batch)[:, None]
                .expand(batch, frames)[valid]
            )
            used = torch.stack(
                [choice * (counts > book)[:, None] for book, choice in enumerate(choices)]
            ).sum(0)
            loss = torch.stack(
                [
                    F.mse_loss(seen[:, self.channels(book)], choice[:, self.channels(book)])
                    for book, (seen, choice) in enumerate(zip(inputs, choices, strict=True))
                ]
            ).mean()
            straight = vectors + (used - vectors).detach()
            out = latent.new_zeros(batch, frames, width, dtype=torch.float32)
            out = out.masked_scatter(mask.expand_as(out), straight)
            codes = torch.zeros(batch, frames, most, dtype=torch.long, device=latent.device)
            codes[valid] = found.T
        return Quantized(out, codes.transpose(1, 2), loss)

    @torch.no_grad()
    def initialise(self, vectors: Tensor, iterations: int = 15, seed: int = 0) -> None:
        """Set all codebooks by k-means, book after book, on float32 `[N, D]` with N of at least V.

        Raises:
            ValueError: If there are fewer vectors than entries.
        """
        if len(vectors) < self.codebook_size:
            raise ValueError(
                f"{len(vectors)} vectors cannot initialise {self.codebook_size} entries."
            )
        generator = torch.Generator().manual_seed(seed)
        residual = vectors.float()
        for book in range(self.num_codebooks):
            seen = self.channels(book)
            order = torch.randperm(len(residual), generator=generator)[: self.codebook_size]
            self.codebooks[book].zero_()
            self.codebooks[book, :, seen] = residual[order.to(residual.device)][:, seen]
            for _ in range(iterations):
                counts, sums = self._statistics(self.nearest(book, residual), residual, book)
                filled = counts > 0
                self.codebooks[book, filled] = sums[filled] / counts[filled, None]
                if (lonely := int((~filled).sum())) > 0:
                    again = torch.randperm(len(residual), generator=generator)[:lonely].to(
                        residual.device
                    )
                    self.codebooks[book, ~filled] = 0
                    self.codebooks[book][:, seen][~filled] = residual[again][:, seen]
            self.counts[book] = 1
            self.sums[book] = self.codebooks[book]
            residual = residual - F.embedding(self.nearest(book, residual), self.codebooks[book])
        self.is_initialised.fill_(True)

    def _statistics(self, index: Tensor, vectors: Tensor, book: int) -> tuple[Tensor, Tensor]:
        """Count and sum of the vectors that fell to each entry, hidden channels left out."""
        counts = torch.bincount(index, minlength=self.codebook_size).float()
        sums = vectors.new_zeros(self.codebook_size, vectors.shape[-1])
        seen = self.channels(book)
        part = vectors[:, seen]
        sums[:, seen] = torch.zeros_like(sums[:, seen]).index_add_(0, index, part)
        return counts, sums

    @torch.no_grad()
    def _update(self, codes: Tensor, inputs: list[Tensor]) -> None:
        """Move each entry towards the mean of what chose it; restart entries that nothing chooses."""
        for book, (index, seen) in enumerate(zip(codes, inputs, strict=True)):
            vectors = seen.detach()
            counts, sums = self._statistics(index, vectors, book)
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(counts)
                dist.all_reduce(sums)
            self.counts[book].lerp_(counts, 1 - EMA_DECAY)
            self.sums[book].lerp_(sums, 1 - EMA_DECAY)
            self.codebooks[book] = self.sums[book] / self.counts[book].clamp(min=1e-6)[:, None]
            mean = float(self.counts[book].mean())
            dead = torch.nonzero(self.counts[book] < RESTART_SHARE * mean)[:, 0]
            if len(dead) and len(vectors):
                drawn = torch.randint(len(vectors), (len(dead),), device=vectors.device)
                fresh = torch.zeros_like(self.codebooks[book, dead])
                fresh[:, self.channels(book)] = vectors[drawn][:, self.channels(book)]
                if dist.is_available() and dist.is_initialized():
                    dist.broadcast(fresh, 0)
                # the averages restart too, or the next update would bring the dead entry back
                self.codebooks[book, dead] = fresh
                self.counts[book, dead] = mean
                self.sums[book, dead] = fresh * mean
