"""`FineModel`: the books that are not sent, generated from those that are.

This is the second of LMCodec's two Transformers (Jenrungrot et al. 2023, arXiv 2303.12984): fine codes
cost no bits. Sizes are ours. A frame's fine codes follow from its own base codes, all base codes before
it and the fine codes already generated; nothing ahead is read, so it adds no latency but its own
computation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

from ..errors import ConfigError, ModelMismatch
from ..slm.sampling import draw_top, generator_of
from ..tokenizer.codes import Codes
from .config import FineConfig
from .frame_model import FrameModel


class FineModel(FrameModel):
    """Generates the fine books of every frame from its base books and the frames before."""

    config_class = FineConfig
    config: FineConfig
    base_model_prefix = "fine"

    def stream(
        self, *, temperature: float = 0.0, top_k: int = 30, seed: int = 0, batch_size: int = 1
    ) -> FineStream:
        """Begin to generate; see `FineStream`."""
        return FineStream(self, temperature, top_k, [seed + item for item in range(batch_size)])

    def complete(
        self, codes: Codes, *, temperature: float = 0.0, top_k: int = 30, seed: int = 0
    ) -> Codes:
        """All books of codes that hold the base books.

        Args:
            codes: At least the base books; those above are not read.
            temperature, top_k, seed: As in `FineStream`; item i has the seed `seed` + i.

        Returns:
            The same codes with all K books; frames past an item's length are 0.

        Raises:
            ModelMismatch: If the codes are another codec's, or lack a base book.
        """
        self.config.codec_identity.require(codes.identity, "These codes")
        batch, books, frames = codes.values.shape
        if books < self.num_given:
            raise ModelMismatch(
                f"The fine model reads {self.num_given} base books, the codes hold {books}; "
                "encode with more books, or take a fine model for fewer."
            )
        base = codes.values[:, : self.num_given]
        stream = self.stream(temperature=temperature, top_k=top_k, seed=seed, batch_size=batch)
        values = torch.cat((base, stream.push(base)), dim=1)
        is_frame = torch.arange(frames, device=values.device) < codes.lengths[:, None]
        return Codes(values * is_frame[:, None], codes.num_samples, codes.identity)


class FineStream:
    """Fine codes of signals that arrive in pieces of any size; pieces or whole, the codes are the same.

    Args:
        model: In evaluation mode.
        temperature: Divides the logits; 0 takes the likeliest code.
        top_k: Likeliest codes that are drawn from.
        seeds: Of each item's draws; as many as there are items.

    Raises:
        ConfigError: If the temperature is negative or `top_k` below 1.
    """

    def __init__(
        self, model: FineModel, temperature: float, top_k: int, seeds: Sequence[int]
    ) -> None:
        if temperature < 0 or top_k < 1:
            raise ConfigError(
                f"temperature is {temperature} and top_k {top_k}; take at least 0 and at least 1."
            )
        self.model, self.temperature, self.top_k = model, temperature, top_k
        self._generators = [generator_of(seed) for seed in seeds]
        self._cache = model.new_cache(len(seeds))
        self._previous: Tensor | None = None

    @torch.no_grad()
    def push(self, base: Tensor) -> Tensor:
        """Generate for the next frames.

        Args:
            base: int64 `[B, G, T]`, their base codes.

        Returns:
            int64 `[B, P, T]`.
        """
        model = self.model
        found = [base.new_zeros(len(base), model.num_levels, 0)]
        for given in base.unbind(2):
            state = model.advance(self._cache, self._previous, given)
            uniform = self._uniform(base.device)
            codes: list[Tensor] = []
            for level, head in enumerate(model.heads):
                codes.append(self._choose(head(state), uniform[:, level]))
                if level + 1 < model.num_levels:
                    state = model.tell(state, level, codes[-1])
            self._previous = torch.stack(codes, dim=1)
            found.append(self._previous[..., None])
        return torch.cat(found, dim=2)

    def _uniform(self, device: torch.device) -> Tensor:
        levels = self.model.num_levels
        drawn = [torch.rand(levels, generator=generator) for generator in self._generators]
        return torch.stack(drawn).to(device)

    def _choose(self, logits: Tensor, uniform: Tensor) -> Tensor:
        if self.temperature == 0:
            return logits.argmax(-1)
        return draw_top(logits, uniform, self.top_k, self.temperature)


AutoConfig.register(FineConfig.model_type, FineConfig, exist_ok=True)
AutoModel.register(FineConfig, FineModel, exist_ok=True)
