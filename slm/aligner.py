"""`AlignerModel`: which frames of a recording speak which symbol, learned from transcripts alone.

A hidden Markov model with one state a symbol, in which a small network gives each state its
distribution over codes: it reads the symbol, its neighbours and the voice (the mean of the
utterance's codes), and every leading book of a frame is drawn from it on its own. Summing over all
monotonic paths makes it learn where symbols lie (Baum-Welch by gradient); the best path is the
alignment. Frames that a text must explain leave nothing for a blank to swallow, so durations come out
whole, not as the peaks of CTC.
"""

# No `from __future__ import annotations` here: the Hub's `strict` checks no type that is a string.
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from ..errors import ConfigError, ModelMismatch, UnsupportedText
from ..tokenizer.codes import CodecIdentity
from ..tokenizer.model_folder import load_model
from .alignment import is_before
from .codec_config import CodecBoundConfig
from .initialization import InitializedModel, initialize, initialize_logits
from .language_model import CodeEmbedding
from .monotonic import best_path, log_path_sum, off_diagonal
from .shipped import shipped_models
from .text import NO_TEXT, PAD, SymbolTable
from .transformer import RMSNorm


@strict
class AlignerConfig(CodecBoundConfig):
    """Configuration of `AlignerModel`.

    Attributes:
        symbols: All text symbols in the order of their ids, specials first (`SymbolTable.symbols`);
            None stands for the English table.
        num_books: Leading books that the model explains, 1 to `num_codebooks`.
        hidden_size: D.
        num_layers: Convolutions over the symbols.
        kernel_size: Odd width of each, in symbols.
    """

    model_type = "speechlm-aligner"

    symbols: list[str] | None = None
    num_books: int = 3
    hidden_size: int = 192
    num_layers: int = 3
    kernel_size: int = 3

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill in the symbols and refuse sizes that contradict each other."""
        super().__post_init__(**kwargs)
        self.symbols = SymbolTable(self.symbols).symbols
        if not 1 <= self.num_books <= self.num_codebooks:
            raise ConfigError(
                f"num_books is {self.num_books}; it must lie between 1 and num_codebooks "
                f"({self.num_codebooks})."
            )
        if self.kernel_size % 2 == 0:
            raise ConfigError(f"kernel_size is {self.kernel_size}; make it odd.")
        for name in ("hidden_size", "num_layers", "kernel_size", "codebook_size", "hop_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    @property
    def symbol_table(self) -> SymbolTable:
        """The table that encodes this model's text."""
        return SymbolTable(self.symbols)


@dataclass
class AlignerOutput(ModelOutput):
    """What one pass gives.

    Attributes:
        loss: `text_loss` and `voice_loss` together; nats a frame.
        text_loss: Negative log-likelihood of the codes, all paths summed; nats a frame.
        voice_loss: The same of the model that knows the voice and not the text.
    """

    loss: Tensor | None = None
    text_loss: Tensor | None = None
    voice_loss: Tensor | None = None


@dataclass(frozen=True)
class Alignment:
    """One aligned utterance.

    Attributes:
        durations: int64 `[S]`, frames of every symbol, each at least 1, their sum T.
        gain: Nats a frame by which the best path explains the codes better than the voice alone
            does. A transcript that belongs to the recording gains, any other hardly.
    """

    durations: Tensor
    gain: float


class AlignerModel(InitializedModel):
    """Log-likelihood of frames under symbols, and the alignment that follows.

    Attributes:
        context: Weight of what a symbol's neighbours say, 1 except early in training: a model that
            hears neighbours before it knows the sounds may settle one symbol off, in either direction.
        diagonal: Weight of the belief that symbols lie evenly in time, 0 except at the very start of
            training, which it shortens.
    """

    config_class = AlignerConfig
    base_model_prefix = "aligner"
    main_input_name = "codes"
    context: float = 1.0
    diagonal: float = 0.0

    def __init__(self, config: AlignerConfig) -> None:
        super().__init__(config)
        width, books = config.hidden_size, config.num_books
        self.symbols = nn.Embedding(len(config.symbols or ()), width)
        self.codes = CodeEmbedding(books, config.codebook_size, width)
        self.voice = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(config.num_layers))
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, config.kernel_size, padding="same")
            for _ in range(config.num_layers)
        )
        self.mixers = nn.ModuleList(nn.Linear(width, width) for _ in range(config.num_layers))
        self.output_norm = RMSNorm(width)
        self.logits = nn.Linear(width, books * config.codebook_size)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        initialize(module, self.config.hidden_size, self.config.num_layers)
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=1.0)
        if module is self:
            initialize_logits(self.logits.weight)

    def forward(
        self, symbols: Tensor, num_symbols: Tensor, codes: Tensor, num_frames: Tensor, **_: Any
    ) -> AlignerOutput:
        """Losses of a batch.

        Args:
            symbols: int64 `[B, S]`, boundaries included, `PAD` behind.
            num_symbols: int64 `[B]`.
            codes: int64 `[B, K, T]`; books past `num_books` are not read.
            num_frames: int64 `[B]`, at least `num_symbols`.

        Returns:
            `AlignerOutput`; float32 also under autocast.
        """
        scores, alone = self.scores(symbols, num_symbols, codes, num_frames)
        frames = num_frames.sum()
        if self.diagonal:
            scores = scores - self.diagonal * off_diagonal(scores, num_frames, num_symbols)
        text = -log_path_sum(scores, num_frames, num_symbols).sum() / frames
        voice = -alone.sum() / frames
        return AlignerOutput(loss=text + voice, text_loss=text, voice_loss=voice)

    def scores(
        self, symbols: Tensor, num_symbols: Tensor, codes: Tensor, num_frames: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-likelihood of every frame under every symbol, and under no text.

        Args:
            symbols, num_symbols, codes, num_frames: As in `forward`.

        Returns:
            float32 `[B, T, S]`, and `[B, T]`, which is 0 past an item's frames; nats.
        """
        books, length = self.config.num_books, codes.shape[2]
        read = codes[:, :books]
        is_frame = is_before(num_frames, length)
        sums = self.codes(read).sum(1) * is_frame[..., None]
        voice = self.voice(sums.sum(1) / num_frames[:, None])[:, None]
        is_symbol = is_before(num_symbols, symbols.shape[1])[..., None]
        states = self._states(symbols, voice, is_symbol)
        nothing = torch.full_like(symbols[:, :1], NO_TEXT)
        alone = self._states(nothing, voice, torch.ones_like(nothing, dtype=torch.bool)[..., None])
        found = self._likelihood(torch.cat((states, alone), dim=1), read)
        return found[..., :-1], found[..., -1] * is_frame

    @torch.inference_mode()
    def align(self, items: Sequence[tuple[Sequence[int], Tensor]]) -> list[Alignment]:
        """Align utterances, all of them at once.

        Args:
            items: For each the symbols of `SymbolTable.encode` and int64 codes `[K, T]`.

        Raises:
            UnsupportedText: If an utterance has fewer frames than symbols.
        """
        for symbols, codes in items:
            if codes.shape[1] < len(symbols):
                raise UnsupportedText(
                    f"{len(symbols)} symbols do not fit {codes.shape[1]} frames, one each at "
                    "least; check the transcript, or leave the utterance out."
                )
        batch = {name: t.to(self.device) for name, t in padded(items).items()}
        scores, alone = self.scores(**batch)
        num_frames = batch["num_frames"]
        durations, likelihood = best_path(scores, num_frames, batch["num_symbols"])
        gains = (likelihood - alone.sum(1)) / num_frames
        return [
            Alignment(found.cpu(), gain)
            for found, gain in zip(durations, gains.tolist(), strict=True)
        ]

    def _states(self, symbols: Tensor, voice: Tensor, is_symbol: Tensor) -> Tensor:
        """What each symbol expects in this voice, `[B, S, D]`."""
        x = (self.symbols(symbols) + voice) * is_symbol
        layers = zip(self.norms, self.convolutions, self.mixers, strict=True)
        for norm, convolution, mixer in layers:
            mixed = convolution((norm(x) * is_symbol).transpose(1, 2)).transpose(1, 2)
            x = (x + self.context * mixer(F.gelu(mixed))) * is_symbol
        return self.output_norm(x)

    def _likelihood(self, states: Tensor, codes: Tensor) -> Tensor:
        """Log-likelihood `[B, T, S]` of `[B, k, T]` codes under `[B, S, D]` states, summed over books."""
        batch, size, _ = states.shape
        logits = self.logits(states).float().view(batch, size, self.config.num_books, -1)
        logs = logits.log_softmax(-1)
        found = logs.new_zeros(batch, size, codes.shape[2])
        for book in range(self.config.num_books):
            found = found + logs[:, :, book].gather(2, codes[:, book, None].expand(-1, size, -1))
        return found.transpose(1, 2)


def padded(items: Sequence[tuple[Sequence[int], Tensor]]) -> dict[str, Tensor]:
    """Symbols and codes `[K, T]` of utterances as the batch that `AlignerModel.forward` takes."""
    pad = nn.utils.rnn.pad_sequence
    symbols = [torch.as_tensor(symbols, dtype=torch.int64) for symbols, _ in items]
    return {
        "symbols": pad(symbols, True, PAD),
        "num_symbols": torch.tensor([len(each) for each in symbols]),
        "codes": pad([codes.T for _, codes in items], True).transpose(1, 2),
        "num_frames": torch.tensor([codes.shape[1] for _, codes in items]),
    }


def load_aligner(folder: Path | None, codec: CodecIdentity, where: str) -> AlignerModel:
    """The aligner of a folder, or the one that ships.

    Args:
        folder: Written by `speechlm export`; None for the one that ships.
        codec: Refuse an aligner for any other codec.
        where: Names what was made with that codec, as the beginning of a sentence.

    Raises:
        CorruptWeights: If there is no aligner in the folder.
        ModelMismatch: If it is made for another codec.
    """
    aligner = load_model(shipped_models() / "aligner" if folder is None else folder, AlignerModel)
    known = aligner.config.codec_identity
    if folder is None and known != codec:
        raise ModelMismatch(
            f"{where} is {codec.codec_id} revision {codec.revision}, and the aligner that ships knows "
            f"{known.codec_id} revision {known.revision}; train one with `speechlm train aligner`, "
            "and name it."
        )
    known.require(codec, where)
    return aligner


AutoConfig.register(AlignerConfig.model_type, AlignerConfig, exist_ok=True)
AutoModel.register(AlignerConfig, AlignerModel, exist_ok=True)
