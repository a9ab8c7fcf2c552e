"""Configurations of the language models: a base, an autoregressive and a non-autoregressive one."""

# No `from __future__ import annotations` here: the Hub's `strict` checks no type that is a string.
from typing import Any

from huggingface_hub.dataclasses import strict

from ..errors import ConfigError
from .codec_config import CodecBoundConfig
from .prompt import LONGEST_SECONDS
from .text import SPECIALS, SymbolTable

ALIGNMENTS = ("pointer", "prefix")
GROUP_SIZES = (1, 2, 4)  # VALL-E 2 loses much at 8
_SHARES = ("dropout", "input_drop", "label_smoothing", "condition_drop")


@strict
class SpeechLMConfig(CodecBoundConfig):
    """What both language models share; the default sizes train on two cores.

    Attributes:
        symbols: All text symbols in the order of their ids, specials first (`SymbolTable.symbols`);
            None stands for the English table.
        num_pieces: Entries of the text model, specials included, where text is written in pieces
            (`PieceTokenizer`) and not in phonemes; `symbols` is then None, and `alignment` `prefix`,
            since nobody knows how long a piece lasts.
        text_model_bytes: Size of that text model, which is stored among the weights.
        alignment: `pointer`: every frame knows the symbol it speaks, and the pointer only stays or
            advances (after VALL-E R). `prefix`: symbols precede the frames and attention finds the
            alignment (VALL-E).
        ar_books: How many leading books the autoregressive model predicts, 1 to `num_codebooks`;
            the non-autoregressive model predicts the others.
        max_frames_per_symbol: Frames after which the pointer must move; its age is clipped here.
        hidden_size, num_layers, num_heads, ffn_size: D and the size of the Transformer.
        text_layers, text_kernel_size: Convolutions over the symbols (pointer alignment only).
        qk_norm: Whether queries and keys are normalised per head.
        rope_theta: Base of the rotary frequencies.
        dropout: Share of every block's output that training zeroes.
    """

    symbols: list[str] | None = None
    num_pieces: int = 0
    text_model_bytes: int = 0
    alignment: str = "pointer"
    ar_books: int = 6
    max_frames_per_symbol: int = 40
    hidden_size: int = 256
    num_layers: int = 6
    num_heads: int = 4
    ffn_size: int = 704
    text_layers: int = 3
    text_kernel_size: int = 5
    qk_norm: bool = True
    rope_theta: float | int = 10_000.0
    dropout: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in the symbols and refuse sizes that contradict each other."""
        super().__post_init__(**kwargs)
        self._settle_text()
        if self.alignment not in ALIGNMENTS:
            raise ConfigError(
                f"alignment is {self.alignment!r}; choose one of {', '.join(ALIGNMENTS)}."
            )
        if not 1 <= self.ar_books <= self.num_codebooks:
            raise ConfigError(
                f"ar_books is {self.ar_books}; it must lie between 1 and num_codebooks "
                f"({self.num_codebooks})."
            )
        if self.num_heads < 1 or self.hidden_size % (2 * self.num_heads):
            raise ConfigError(
                f"hidden_size is {self.hidden_size}; make it a multiple of twice num_heads "
                f"({self.num_heads}), for rotary positions turn pairs of channels."
            )
        if self.text_kernel_size % 2 == 0:
            raise ConfigError(f"text_kernel_size is {self.text_kernel_size}; make it odd.")
        sizes = ("num_layers", "ffn_size", "max_frames_per_symbol", "codebook_size", "hop_length")
        for name in sizes:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in (n for n in _SHARES if hasattr(self, n)):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must lie in [0, 1).")

    def _settle_text(self) -> None:
        if not self.num_pieces:
            self.symbols = SymbolTable(self.symbols).symbols
            return
        if self.symbols is not None:
            raise ConfigError("A model takes symbols or pieces, not both; leave one of them out.")
        if self.num_pieces <= len(SPECIALS) or self.text_model_bytes < 1:
            raise ConfigError(
                f"{self.num_pieces} pieces in a text model of {self.text_model_bytes} bytes make "
                "no vocabulary; take both numbers from the text model."
            )
        if self.alignment == "pointer":
            raise ConfigError(
                "Pieces of text have no durations, which the alignment `pointer` needs; "
                "set alignment to `prefix`, or train on phonemes."
            )

    @property
    def symbol_table(self) -> SymbolTable:
        """The table that encodes this model's phonemes.

        Raises:
            ConfigError: If the model reads pieces.
        """
        if self.num_pieces:
            raise ConfigError(
                "This model reads pieces, not phonemes; take its `vocabulary` to encode text."
            )
        return SymbolTable(self.symbols)

    @property
    def num_symbols(self) -> int:
        """Number of text symbols or pieces, specials included."""
        return self.num_pieces or len(self.symbols or ())


@strict
class AutoregressiveConfig(SpeechLMConfig):
    """Configuration of `AutoregressiveModel`.

    Attributes:
        input_drop: Share of the target's input frames whose codes training hides, so that the model
            leans on the text and not on its last frame only.
        advance_weight: Weight of the advance loss beside the mean loss of the books.
        residual_weight: Weight of a residual book's loss beside a masked book's. Residual codes are
            close to noise: the first weights reached 6.4 to 6.6 of log(1024) = 6.9 nats on them.
        group_size: G, frames that one step of the Transformer writes (VALL-E 2): 1, 2 or 4.
        condition_drop: Share of training items without text and prompt; above 0 the model can be
            guided (`guidance.py`), 0.1 is usual.
        guidance: Scale of the guidance with which the model speaks unless told otherwise; 1 is off.
        max_guidance: To what it rises where text and prompt say little about what is spoken, as behind noisy
            prompts (`guidance.adapted`); None leaves it as it is.
        min_prompt_seconds: A shorter prompt without its transcript is heard again until it is so long
            (`prompt.heard_again`) unless the model is told otherwise; 0 hears each once.
        voice_vector: Whether every frame of the target is told what the prompt sounds like on the whole
            (`VoiceVector`), beside what attention finds in it.
    """

    model_type = "speechlm-ar"

    input_drop: float | int = 0.1
    advance_weight: float | int = 1.0
    residual_weight: float | int = 0.25
    group_size: int = 1
    condition_drop: float | int = 0.0
    guidance: float | int = 1.0
    max_guidance: float | int | None = None
    min_prompt_seconds: float | int = 0.0
    voice_vector: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse groups of sizes that nobody has tried."""
        super().__post_init__(**kwargs)
        if not 1 <= self.guidance <= 10 or (self.guidance != 1 and not self.condition_drop):
            raise ConfigError(
                f"guidance is {self.guidance}; it must lie between 1 (off) and 10, and above 1 only with "
                "condition_drop."
            )
        if self.max_guidance is not None and not self.guidance <= self.max_guidance <= 10:
            raise ConfigError(
                f"max_guidance is {self.max_guidance}; it must lie between guidance and 10."
            )
        if not 0 <= self.min_prompt_seconds <= LONGEST_SECONDS:
            raise ConfigError(
                f"min_prompt_seconds is {self.min_prompt_seconds}; it must lie between 0 (off) and "
                f"{LONGEST_SECONDS:.0f}."
            )
        if self.group_size not in GROUP_SIZES:
            raise ConfigError(
                f"group_size is {self.group_size}; choose one of "
                f"{', '.join(map(str, GROUP_SIZES))}."
            )


@strict
class NonAutoregressiveConfig(SpeechLMConfig):
    """Configuration of `NonAutoregressiveModel`.

    Attributes:
        ar_books: As in the base, but at least one book is left to this model.
        input_drop: Share of the target's lower codes that training hides, each on its own.
        label_smoothing: Share of the target distribution spread over all codes.
    """

    model_type = "speechlm-nar"

    ar_books: int = 1
    input_drop: float | int = 0.08
    label_smoothing: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        """Refuse a model without a book to predict."""
        super().__post_init__(**kwargs)
        if self.ar_books == self.num_codebooks:
            raise ConfigError(
                f"ar_books is {self.ar_books} of {self.num_codebooks}: the autoregressive model "
                "predicts every book, so leave the non-autoregressive model out."
            )

    @property
    def num_stages(self) -> int:
        """Books this model predicts, one per stage."""
        return self.num_codebooks - self.ar_books
