"""Configurations of the models behind transmission: the entropy model, the fine model and the masked model.

The first two are one network (`frame_model.py`) that is told other books: the entropy model predicts
the base books, which are sent; the fine model knows them and predicts the others, which are not. The
masked model (`masked_model.py`) predicts whatever books of whatever frames are missing.
"""

# No `from __future__ import annotations` here: the Hub's `strict` checks no type that is a string.
from typing import Any

from huggingface_hub.dataclasses import strict

from ..errors import ConfigError
from ..slm.codec_config import CodecBoundConfig


@strict
class WindowModelConfig(CodecBoundConfig):
    """What all three share: sizes of a window Transformer over the frames of a codec.

    Attributes:
        num_base_books: Leading books that are sent; None stands for the codec's masked books.
        hidden_size, num_layers, num_heads, ffn_size: D and the size of the Transformer.
        code_size: Width of a code's vector before it is mapped to D.
        head_size: Width inside each level's head, the rank of its logits.
        window: Frames that attention sees, the current one included; memory and time of a step are
            bounded by it, however long the signal.
        dropout: Share of every block's output that training zeroes.
    """

    num_base_books: int | None = None
    hidden_size: int = 192
    num_layers: int = 6
    num_heads: int = 4
    ffn_size: int = 384
    code_size: int = 64
    head_size: int = 128
    window: int = 64
    dropout: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        """Settle the base books and refuse sizes that contradict each other."""
        super().__post_init__(**kwargs)
        if self.num_base_books is None:
            self.num_base_books = max(1, self.num_masked_books)
        if not max(1, self.num_masked_books) <= self.num_base_books <= self.num_codebooks:
            raise ConfigError(
                f"num_base_books is {self.num_base_books}; it must lie between the codec's masked "
                f"books ({self.num_masked_books}) and all of them ({self.num_codebooks})."
            )
        sizes = ("hidden_size", "num_layers", "num_heads", "ffn_size", "code_size", "head_size")
        for name in (*sizes, "window", "codebook_size", "hop_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.hidden_size % self.num_heads:
            raise ConfigError(
                f"hidden_size is {self.hidden_size}; make it a multiple of num_heads "
                f"({self.num_heads})."
            )
        self._require_share("dropout")

    def _require_share(self, name: str) -> None:
        if not 0 <= getattr(self, name) < 1:
            raise ConfigError(f"{name} is {getattr(self, name)}; it must lie in [0, 1).")

    def _require_fine_books(self) -> None:
        if self.base_books == self.num_codebooks:
            raise ConfigError(
                f"num_base_books is {self.num_base_books} of {self.num_codebooks}: all books are "
                "base books and no fine one is left to predict; lower it."
            )

    @property
    def base_books(self) -> int:
        """Number of the books that are sent."""
        return self.num_base_books or max(1, self.num_masked_books)

    @property
    def num_given(self) -> int:
        """Leading books of a frame that the model knows before it predicts any of that frame."""
        return 0

    @property
    def num_levels(self) -> int:
        """Books that the model predicts, one after the other, behind the given ones."""
        return self.base_books


@strict
class FrameModelConfig(WindowModelConfig):
    """What the entropy model and the fine model share.

    Attributes:
        input_drop: Share of the frames whose codes training hides from the frame after.
    """

    input_drop: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse a share that is none."""
        super().__post_init__(**kwargs)
        self._require_share("input_drop")


@strict
class EntropyConfig(FrameModelConfig):
    """Configuration of `EntropyModel`: nothing of a frame is given, the base books are predicted."""

    model_type = "speechlm-entropy"


@strict
class FineConfig(FrameModelConfig):
    """Configuration of `FineModel`: the base books are given, all others predicted.

    Attributes:
        input_drop: As in the base. In use the model reads its own guesses, not true codes.
    """

    model_type = "speechlm-fine"

    input_drop: float | int = 0.1

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse a model without a book to predict."""
        super().__post_init__(**kwargs)
        self._require_fine_books()

    @property
    def num_given(self) -> int:
        """The base books."""
        return self.base_books

    @property
    def num_levels(self) -> int:
        """The books that are not sent."""
        return self.num_codebooks - self.base_books


@strict
class MaskedConfig(WindowModelConfig):
    """Configuration of `MaskedModel`: base and fine books, each frame's known ones given.

    Attributes:
        window: Frames that one look at a signal takes in; all of them see each other.
        future_frames: How many of them, at the most, lie behind a frame that is concealed.
    """

    model_type = "speechlm-masked"

    num_layers: int = 4
    head_size: int = 96
    window: int = 29
    future_frames: int = 4

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse a model without a fine book, and a future that the window does not hold."""
        super().__post_init__(**kwargs)
        self._require_fine_books()
        if not 0 <= self.future_frames < self.window:
            raise ConfigError(
                f"future_frames is {self.future_frames}; it must lie between 0 and the window of "
                f"{self.window} frames."
            )

    @property
    def past_frames(self) -> int:
        """Frames of a look that lie before a concealed one, at the most."""
        return self.window - 1 - self.future_frames

    @property
    def num_given(self) -> int:
        """The base books: all that is known when fine codes are coded."""
        return self.base_books

    @property
    def num_levels(self) -> int:
        """The fine books."""
        return self.num_codebooks - self.base_books
