"""Recipes of the models behind transmission."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from .config import RunSettings, Strict


class TransmissionTraining(Strict):
    """`speechlm train entropy` and `speechlm train fine`.

    Attributes:
        predicts: `base`, the books that are sent (entropy model), or `fine`, the others (fine model).
        model: Keys of the model's configuration; what the shards say (codec, books, codebook size) is
            filled in.
        shards: Folders of token shards.
        codec: Folder of the codec that made them, or `shipped`: codes begin as alike as its entries are
            (`FrameModel.take_codebooks`). None begins at random.
        batch_frames: Padded frames in one batch.
        crop_seconds: Longest training item, a random piece of an utterance. Streams begin anew every
            chunk, so pieces little longer than a chunk are what the entropy model will meet.
        context_seconds: Validation measures pieces of this length, each without a past: a chunk.
        run: Settings of the run.
    """

    predicts: Literal["base", "fine"]
    model: dict[str, Any] = Field(default_factory=dict)
    shards: list[str]
    codec: str | None = None
    batch_frames: int = Field(4000, ge=1)
    crop_seconds: float = Field(2.0, gt=0)
    context_seconds: float = Field(1.0, gt=0)
    run: RunSettings = RunSettings()
