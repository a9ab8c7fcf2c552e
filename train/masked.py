"""Training of the masked model: pieces of utterances, seen once as a receiver and once as a coder sees."""

from __future__ import annotations

import math
import random
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..transmission.masked_model import MaskedModel, MaskedOutput
from .batches import Draw
from .code_task import CodeTask
from .concealment import fine_figures, gap_figures
from .config import MaskedTraining
from .masks import Look, lossy_look, packet_look
from .task import Batch, Validation

_PACKETS = (2, 4, 8)  # frames of context whose bits validation measures
_GAPS = (1, 2, 3, 5)
_OWN_FRAMES = 2  # a packet's own, whose fine codes it carries
_VALIDATION_FRAMES = 4000  # a batch
# fine codes are near noise: what can be known of them is learned slowest, and what they give least
_WEIGHTS = {"lost_base": 1.0, "lost_fine": 0.5, "packets": 2.0}
_MASKS = ("is_known", "is_told", "is_counted")

Item = tuple[Tensor, tuple[Look, Look]]


class MaskedTask(CodeTask):
    """A masked model with its shards; see `task.Task` for the methods."""

    def __init__(self, config: MaskedTraining) -> None:
        super().__init__(config.shards, config.codec, config.run.seed)
        self.config = config
        self.model = self.first_model(MaskedModel, "masked", config.model, config.start_from)
        self.read_rows(self.model.num_given + self.model.num_levels)
        self.crop_frames = self.model.config.window
        self.max_total = config.batch_frames
        self.lengths = np.minimum(self.rows.num_frames, self.crop_frames).tolist()
        self._order_0: float | None = None

    def item(self, draw: Draw) -> Item:
        """A random piece of an utterance, int64 `[K, T]`, with what is hidden of it in two looks."""
        codes = self.rows[draw.index].codes[: self.last_book]
        length = min(codes.shape[1], self.crop_frames)
        start = random.Random(draw.seed).randint(0, codes.shape[1] - length)
        chance = np.random.default_rng(draw.seed)
        sizes = (self.model.num_given, self.model.num_levels, length)
        looks = (lossy_look(chance, *sizes), packet_look(chance, *sizes, self.config.packet_frames))
        return codes[:, start : start + length], looks

    def collate(self, items: list[Item]) -> Batch:
        """Right-padded tensors as `MaskedModel.forward` takes them: a receiver's looks, then a coder's."""
        shape = (2 * len(items), self.last_book, max(codes.shape[1] for codes, _ in items))
        batch = {"codes": torch.zeros(shape, dtype=torch.int64)}
        batch |= {name: torch.zeros(shape, dtype=torch.bool) for name in _MASKS}
        # padding is a segment of its own
        batch["segments"] = torch.full((shape[0], shape[2]), -1)
        pairs = [(codes, looks[number]) for number in range(2) for codes, looks in items]
        for row, (codes, look) in enumerate(pairs):
            batch["codes"][row, :, : codes.shape[1]] = codes
            for name in (*_MASKS, "segments"):
                batch[name][row, ..., : codes.shape[1]] = torch.from_numpy(getattr(look, name))
        return batch

    def before_step(self, step: int) -> None:
        """Nothing to do."""

    def loss(self, model: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted means, in nats a code, of lost base codes, lost fine codes, and fine codes in packets."""
        out: MaskedOutput = model(**batch)
        nats, is_counted = cast(Tensor, out.nats), batch["is_counted"]
        given, half = self.model.num_given, len(nats) // 2
        places = {
            "lost_base": (slice(half), slice(given)),
            "lost_fine": (slice(half), slice(given, None)),
            "packets": (slice(half, None), slice(given, None)),
        }
        means = {
            name: nats[place].sum() / is_counted[place].sum().clamp(min=1)
            for name, place in places.items()
        }
        loss = torch.stack([_WEIGHTS[name] * mean for name, mean in means.items()]).sum()
        return loss, {name: mean.detach() for name, mean in means.items()}

    def validate(self, model: nn.Module) -> Validation:
        """What coding and concealing held-out codes come to.

        Metrics: `packet_m_bits_per_frame`, what the fine codes of a packet's last two frames cost when
        it carries the base of m frames; `order_0_bits_per_frame` of static tables and `saved_of_raw`, the
        share that packets of 4 frames save against raw codes; `gap_g_hits`, lost base codes of gaps
        of g frames that are the likeliest. If the recipe names the codec also `gap_g_error`, the
        squared error of the guessed latents over their variance, and
        `gap_g_repeated_error`, the same when the last frame is repeated; `fine_error` and
        `no_fine_error`, when the base is there and all fine codes are guessed or left out.
        """
        masked = cast(MaskedModel, model)
        levels = masked.num_levels
        metrics = {
            f"packet_{frames}_bits_per_frame": self._packet_bits(masked, frames)
            for frames in _PACKETS
        }
        if self._order_0 is None:
            tables = self.static_tables(range(masked.num_given, self.last_book))
            self._order_0 = float(tables.bits(self.validation_codes)[0].sum())
        raw = levels * math.log2(masked.config.codebook_size)
        metrics["order_0_bits_per_frame"] = self._order_0
        metrics["saved_of_raw"] = 1 - metrics["packet_4_bits_per_frame"] / raw
        books = None if self.codec is None else self.codec.quantizer.codebooks
        for gap in _GAPS:
            metrics |= gap_figures(masked, self.validation_codes, gap, books)
        if books is not None:
            metrics |= fine_figures(masked, self.validation_codes, books)
        return Validation(metrics)

    def _packet_bits(self, model: MaskedModel, frames: int) -> float:
        """Mean bits of a frame's fine codes in packets of so many frames."""
        pieces = [
            piece
            for codes in self.validation_codes
            for piece in codes.split(frames, 1)
            if piece.shape[1] == frames
        ]
        nats, count = 0.0, 0
        for part in torch.stack(pieces).split(_VALIDATION_FRAMES // frames):
            is_known = torch.zeros_like(part, dtype=torch.bool)
            is_known[:, : model.num_given] = True
            is_counted = torch.zeros_like(is_known)
            is_counted[:, model.num_given :, -_OWN_FRAMES:] = True
            segments = torch.zeros_like(part[:, 0])
            given = (part, is_known, torch.ones_like(is_known), is_counted, segments)
            out = model(*(tensor.to(model.device) for tensor in given))
            nats += float(out.nats.sum())
            count += len(part) * min(_OWN_FRAMES, frames)
        return nats / count / math.log(2)
