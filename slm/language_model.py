"""`LanguageModel`: what the autoregressive and the non-autoregressive model are both built of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelMismatch
from .alignment import TextEncoder, is_before
from .config import SpeechLMConfig
from .initialization import InitializedModel, initialize
from .pieces import PieceTokenizer
from .text import Vocabulary
from .transformer import Transformer

TOP_K_ACCURACY = 10  # below 0.4 speech is not coherent yet


class CodeEmbedding(nn.Module):
    """One vector per book and code; a frame is the sum over its books."""

    def __init__(self, num_books: int, codebook_size: int, hidden_size: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.table = nn.Embedding(num_books * codebook_size, hidden_size)

    def forward(self, codes: Tensor) -> Tensor:
        """Vectors of int64 `[B, k, T]`, k at most the number of books: `[B, k, T, D]`."""
        first = torch.arange(codes.shape[1], device=codes.device) * self.codebook_size
        return self.table(codes + first[:, None])

    def of_book(self, book: int, codes: Tensor) -> Tensor:
        """Vectors of one book's codes: int64 `[…]` to `[…, D]`."""
        return self.table(codes + book * self.codebook_size)


class VoiceVector(nn.Module):
    """One vector of a whole prompt: what of a voice does not change with time.

    The mean over the prompt's frames of what two linear layers make of each, the way speaker encoders
    pool. Its last weights begin as zeros, so that a trained model may be given it and go on.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size, bias=False)

    def forward(self, frames: Tensor, num_frames: Tensor) -> Tensor:
        """Vectors `[B, D]` of the first `num_frames` (int64 `[B]`) of frames `[B, T, D]`; zeros of none."""
        is_heard = is_before(num_frames, frames.shape[1])[..., None]
        heard = F.gelu(self.hidden(frames)) * is_heard
        mean: Tensor = heard.sum(1) / num_frames.clamp(min=1)[:, None]
        vector: Tensor = self.output(mean)
        return vector


class LanguageModel(InitializedModel):
    """Text, code and decoder parts of both models.

    A subclass adds the parts in its own order: fresh weights are drawn, and optimizers count
    parameters, in that order.

    Attributes:
        uses_pointer: Whether the alignment is `pointer`.
    """

    main_input_name = "codes"
    _no_split_modules = ["Block"]  # noqa: RUF012 - the base class declares a list
    supports_gradient_checkpointing = True
    config: SpeechLMConfig
    text_model: Tensor

    def __init__(self, config: SpeechLMConfig) -> None:
        super().__init__(config)
        self.uses_pointer = config.alignment == "pointer"

    def _add_text(self) -> None:
        config, width = self.config, self.config.hidden_size
        if self.uses_pointer:
            self.text_encoder = TextEncoder(
                config.num_symbols,
                width,
                config.text_layers,
                config.text_kernel_size,
                config.dropout,
            )
            self.age = nn.Embedding(config.max_frames_per_symbol + 1, width)
        else:
            self.text_embedding = nn.Embedding(config.num_symbols, width)
        if config.text_model_bytes:
            # a tensor, so that checkpoints, exports and the hash of the weights hold it too
            empty = torch.zeros(config.text_model_bytes, dtype=torch.uint8)
            self.register_buffer("text_model", empty)

    def _new_decoder(self, num_stages: int = 0) -> Transformer:
        config = self.config
        return Transformer(
            config.hidden_size,
            config.num_layers,
            config.num_heads,
            config.ffn_size,
            dropout=config.dropout,
            qk_norm=config.qk_norm,
            rope_theta=config.rope_theta,
            num_stages=num_stages,
        )

    def _init_weights(self, module: nn.Module) -> None:
        initialize(module, self.config.hidden_size, self.config.num_layers)

    @property
    def vocabulary(self) -> Vocabulary:
        """What turns text into this model's symbols: its table, or the pieces that its weights hold.

        Raises:
            CorruptWeights: If the pieces are none that speechlm wrote.
        """
        if self.config.text_model_bytes:
            return PieceTokenizer(self.text_model.cpu().numpy().tobytes())
        return self.config.symbol_table

    def take_pieces(self, pieces: PieceTokenizer) -> None:
        """Store a text model among the weights.

        Raises:
            ModelMismatch: If the configuration was made for another one.
        """
        data = torch.frombuffer(bytearray(pieces.model), dtype=torch.uint8)
        if (len(data), pieces.size) != (self.config.text_model_bytes, self.config.num_pieces):
            raise ModelMismatch(
                f"The model is for {self.config.num_pieces} pieces in "
                f"{self.config.text_model_bytes} bytes, the text model has {pieces.size} in "
                f"{len(data)}; build the model from this text model."
            )
        self.text_model.copy_(data)

    def require_same_text(self, other: LanguageModel) -> None:
        """Refuse a model that reads other symbols.

        Raises:
            ModelMismatch: If the symbol tables or the text models differ.
        """
        same = self.config.symbols == other.config.symbols
        mine, theirs = (getattr(model, "text_model", None) for model in (self, other))
        if mine is not None and theirs is not None:
            same = same and torch.equal(mine.cpu(), theirs.cpu())
        if not same or (mine is None) != (theirs is None):
            raise ModelMismatch(
                "The two language models differ in symbols; use a pair trained with one recipe."
            )
