"""Language-model training: prompt and target from token shards, for the AR and the NAR model alike.

A training item is what inference sees: a piece of another utterance of the same speaker as the prompt (or of
several, `fill_prompts`), with or without its transcript, then the whole target utterance. A speaker's only
utterance is its own prompt, cut between two words.
"""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data_prep.shards import TokenRow, TokenShards, open_datasets
from ..errors import ConfigError
from ..slm.attention_prior import prior_strength
from ..slm.autoregressive import AutoregressiveModel, AutoregressiveOutput
from ..slm.config import AutoregressiveConfig, NonAutoregressiveConfig
from ..slm.nonautoregressive import NonAutoregressiveModel, NonAutoregressiveOutput
from ..slm.pieces import PieceTokenizer
from ..slm.text import (
    NO_TEXT,
    PAD,
    SPECIALS,
    SymbolTable,
    Vocabulary,
    has_words,
    is_speakable,
)
from ..tokenizer.codes import CodecIdentity
from .adapters import add_adapters
from .batches import Draw
from .config import LanguageModelTraining
from .start import start_language_model
from .task import Batch, Validation
from .utterances import Copies, Indices, Utterances

CORPUS_SYMBOLS = "corpus"  # as model.symbols: all that the phonemes of the shards hold
_VALIDATION_ROWS = 64
_VALIDATION_SEED = 20_231


@dataclass
class Example:
    """One prompt and target.

    Attributes:
        symbols: int64 `[S]`, the prompt's, then the target's.
        codes: int64 `[K, T]`, the prompt's frames, then the target's.
        pointer: int64 `[T]`, index into `symbols`.
        counts: bool `[T]`, frames of the loss.
        prompt_frames: How many of T are the prompt's.
    """

    symbols: Tensor
    codes: Tensor
    pointer: Tensor
    counts: Tensor
    prompt_frames: int


class LanguageModelTask:
    """An AR or NAR model with its shards; see `task.Task` for the methods."""

    def __init__(self, config: LanguageModelTraining) -> None:
        self.config = config
        share = config.max_damaged_share
        self.train_shards = open_datasets(config.shards, split="train", max_damaged_share=share)
        first = self.train_shards[0]
        self.valid_shards = open_datasets(
            config.shards, split="valid", codec=first.identity, max_damaged_share=share
        )
        if first.num_books != first.identity.num_codebooks:
            raise ConfigError(
                f"{first.folder} holds {first.num_books} of {first.identity.num_codebooks} books; "
                "tokenize with all of them to train a language model."
            )
        torch.manual_seed(config.run.seed)
        self.model, self.symbols = self._model(first.identity)
        if config.attention_prior_steps[1] and self._prior_model() is None:
            raise ConfigError(
                "attention_prior_steps leads an AR model with alignment `prefix`, and this is "
                "another; leave it out."
            )
        self.frame_rate_hz = first.identity.frame_rate_hz
        self.prompt_range = [
            round(seconds * self.frame_rate_hz) for seconds in config.prompt_seconds
        ]
        self.max_total = config.batch_frames
        self.rows = self._usable(self.train_shards)
        self.valid_rows = self._usable(self.valid_shards)
        self.lengths = (self.rows.num_frames + self.prompt_range[1]).tolist()
        read = [shards.fingerprint for shards in self.train_shards]
        self.copies: Copies | None = None
        if config.prompt_copies:
            heard = open_datasets(
                config.prompt_copies,
                split="train",
                codec=first.identity,
                max_damaged_share=share,
            )
            self.copies = Copies(heard, self.rows)
            read += [shards.fingerprint for shards in heard]
        if isinstance(self.symbols, PieceTokenizer):
            read.append(hashlib.sha256(self.symbols.model).hexdigest())
        self.fingerprint = hashlib.sha256(json.dumps(read).encode()).hexdigest()

    def _model(
        self, codec: CodecIdentity
    ) -> tuple[AutoregressiveModel | NonAutoregressiveModel, Vocabulary]:
        """A new model of the recipe's sizes or the one it starts from, and what it reads."""
        config = self.config
        model: AutoregressiveModel | NonAutoregressiveModel
        if config.start_from is not None:
            model = start_language_model(config.start_from, config.stage, config.model)
            model.config.codec_identity.require(codec, f"The token dataset {config.shards[0]}")
            vocabulary = model.vocabulary
            if config.lora is not None:
                add_adapters(model, config.lora)
            return model, vocabulary
        if config.lora is not None:
            raise ConfigError(
                "The section `lora` adapts trained weights; name them with --from, or leave it out."
            )
        sizes, pieces = self._text_sizes()
        if config.stage == "ar":
            model = AutoregressiveModel(AutoregressiveConfig.for_codec(codec, **sizes))
        else:
            model = NonAutoregressiveModel(NonAutoregressiveConfig.for_codec(codec, **sizes))
        if pieces is not None:
            model.take_pieces(pieces)
        return model, pieces or model.config.symbol_table

    def _text_sizes(self) -> tuple[dict[str, Any], PieceTokenizer | None]:
        """The section `model` with what its `text_model` or `symbols: corpus` stands for."""
        sizes = dict(self.config.model)
        path = sizes.pop("text_model", None)
        if path is not None:
            if not isinstance(path, str):
                raise ConfigError(
                    f"model.text_model is {path!r}; give the folder that `speechlm pieces` wrote."
                )
            pieces = PieceTokenizer.load(path)
            sizes |= {"num_pieces": pieces.size, "text_model_bytes": len(pieces.model)}
            # nobody knows how long a piece lasts: there is one alignment to choose
            return {"alignment": "prefix", **sizes}, pieces
        if sizes.get("symbols") == CORPUS_SYMBOLS:
            found = {
                symbol
                for shards in (*self.train_shards, *self.valid_shards)
                for index in range(len(shards))
                for symbol in shards.row(index).phonemes
            }
            sizes["symbols"] = [*SPECIALS, *sorted(found)]
        return sizes, None

    def _usable(self, shards: list[TokenShards]) -> Utterances:
        """Rows with text as the model reads it, with an alignment if it points, and not too long.

        Raises:
            ConfigError: If there is none, or phonemes hold symbols that the model does not know.
        """
        needs_alignment = self.model.config.alignment == "pointer"
        longest = self.config.max_seconds * self.frame_rate_hz
        unknown: set[str] = set()

        def is_usable(row: TokenRow) -> bool:
            usable = (
                self._is_readable(row)
                and row.num_frames <= longest
                and (len(row.durations) > 0 or not needs_alignment)
            )
            if usable and isinstance(self.symbols, SymbolTable):
                unknown.update(symbol for symbol in row.phonemes if symbol not in self.symbols)
            return usable

        found = Utterances(shards, is_usable)
        if not len(found):
            raise ConfigError(
                f"No row of {', '.join(self.config.shards)} can be trained on: each needs "
                + ("phonemes" if isinstance(self.symbols, SymbolTable) else "text")
                + (" and durations, since alignment is `pointer`" if needs_alignment else "")
                + "; docs/training.md tells which commands find them."
            )
        if unknown:
            held = f"The phonemes of {', '.join(self.config.shards)} hold "
            held += f"{', '.join(map(repr, sorted(unknown)[:5]))}, which "
            raise ConfigError(
                f"{held}the weights of {self.config.start_from} do not know; "
                "write the corpus in their symbols, or train without --from."
                if self.config.start_from is not None
                else f"{held}the English symbol table lacks; "
                f"set model.symbols to `{CORPUS_SYMBOLS}` to take the table from the data."
            )
        return found

    def _is_readable(self, row: TokenRow) -> bool:
        if isinstance(self.symbols, SymbolTable):
            return is_speakable(row.phonemes)
        return has_words(row.text)

    def _ids(self, row: TokenRow) -> Tensor:
        """Symbols of a row with both boundaries, int64 `[S]`."""
        is_table = isinstance(self.symbols, SymbolTable)
        return torch.tensor(self.symbols.encode(row.phonemes if is_table else row.text))

    def item(self, draw: Draw) -> Example:
        """The utterance as target, behind a random prompt of its speaker."""
        return self._example(self.rows, draw.index, draw.seed)

    def _example(self, rows: Utterances, index: int, seed: int) -> Example:
        chance = random.Random(seed)
        row = rows[index]
        symbols = self._ids(row)
        target = Example(
            symbols,
            row.codes,
            self._pointer(row, len(symbols)),
            torch.ones(row.num_frames, dtype=torch.bool),
            0,
        )
        candidates = rows.others_of(index, row.speaker)
        if len(candidates) and chance.random() >= self.config.no_prompt_share:
            return _joined(self._prompt(rows, candidates, chance), target)
        if not len(candidates) and self._is_aligned(row):
            heard = self._heard(rows, index, chance)
            return self._continued(target, heard, chance)
        return target

    def _heard(self, rows: Utterances, number: int, chance: random.Random) -> TokenRow:
        """An utterance as a prompt: as it is, or recorded elsewhere."""
        row = rows[number]
        if self.copies is None or rows is not self.rows:
            return row
        copies = self.copies.of(number)
        if not copies or chance.random() >= self.config.prompt_copy_share:
            return row
        return replace(row, codes=self.copies[chance.choice(copies)].codes)

    def _prompt(self, rows: Utterances, candidates: Indices, chance: random.Random) -> Example:
        """A random piece of a candidate, with the symbols it covers or with the no-text symbol.

        Where nobody knows what a piece covers, an utterance that fits is taken whole with its text.
        """
        row = self._heard(rows, int(chance.choice(candidates)), chance)
        wanted = chance.randint(*self.prompt_range)
        length = min(row.num_frames, wanted)
        start = chance.randint(0, row.num_frames - length)
        keeps_text = chance.random() < self.config.prompt_text_share
        if keeps_text and not self._is_aligned(row):
            keeps_text = row.num_frames <= self.prompt_range[1]
            if keeps_text:
                start, length = 0, row.num_frames
        codes = row.codes[:, start : start + length]
        if not keeps_text:
            while self.config.fill_prompts and length < wanted:
                more = self._heard(rows, int(chance.choice(candidates)), chance).codes
                codes = torch.cat([codes, more[:, : wanted - length]], dim=1)
                length = codes.shape[1]
            nothing = torch.zeros(length, dtype=torch.long)
            return Example(torch.tensor([NO_TEXT]), codes, nothing, nothing.bool(), length)
        symbols = self._ids(row)
        pointer = self._pointer(row, len(symbols))[start : start + length]
        counts = torch.full((length,), self.config.prompt_loss)
        if self._is_aligned(row):
            low, high = int(pointer[0]), int(pointer[-1])
            symbols, pointer = symbols[low : high + 1], pointer - low
        return Example(symbols, codes, pointer, counts, length)

    def _continued(self, whole: Example, heard: TokenRow, chance: random.Random) -> Example:
        """The utterance as the continuation of its own beginning as heard, cut where a word ends.

        It stays whole where no cut leaves a prompt of an allowed length and as much to say.
        """
        shortest, longest = self.prompt_range
        moves = (whole.pointer.diff() > 0).nonzero().squeeze(1) + 1
        ends = [
            int(frame)
            for frame in moves[(moves >= shortest) & (moves <= longest)]
            if len(whole.pointer) - frame >= shortest
            and heard.phonemes[int(whole.pointer[frame]) - 1 :][:1]
            == " "  # the first symbol is a boundary
        ]
        if not ends or chance.random() < self.config.no_prompt_share:
            return whole
        cut = chance.choice(ends)
        first = int(whole.pointer[cut])
        symbols, codes, pointer = whole.symbols[:first], heard.codes[:, :cut], whole.pointer[:cut]
        counts = torch.full((cut,), self.config.prompt_loss)
        if chance.random() >= self.config.prompt_text_share:
            symbols, pointer = torch.tensor([NO_TEXT]), torch.zeros(cut, dtype=torch.long)
            counts = torch.zeros(cut, dtype=torch.bool)
        said = Example(
            whole.symbols[first:],
            whole.codes[:, cut:],
            whole.pointer[cut:] - first,
            whole.counts[cut:],
            0,
        )
        return _joined(Example(symbols, codes, pointer, counts, cut), said)

    def _is_aligned(self, row: TokenRow) -> bool:
        """Whether the row's durations are those of the symbols that the model reads."""
        return len(row.durations) > 0 and isinstance(self.symbols, SymbolTable)

    def _pointer(self, row: TokenRow, num_symbols: int) -> Tensor:
        """Symbol of each frame, int64 `[T]`; all zeros where the row has no alignment."""
        if not self._is_aligned(row):
            return torch.zeros(row.num_frames, dtype=torch.long)
        return torch.repeat_interleave(torch.arange(num_symbols), row.durations)

    def collate(self, items: list[Example]) -> Batch:
        """Right-padded tensors as `AutoregressiveModel.forward` takes them."""
        pad = nn.utils.rnn.pad_sequence
        return {
            "symbols": pad([item.symbols for item in items], True, PAD),
            "num_symbols": torch.tensor([len(item.symbols) for item in items]),
            "codes": pad([item.codes.T for item in items], True).transpose(1, 2),
            "num_frames": torch.tensor([item.codes.shape[1] for item in items]),
            "prompt_frames": torch.tensor([item.prompt_frames for item in items]),
            "pointer": pad([item.pointer for item in items], True),
            "loss_mask": pad([item.counts for item in items], True, False),
        }

    def before_step(self, step: int) -> None:
        """Let the belief that text is spoken in order go, where the recipe asks for one."""
        model = self._prior_model()
        if model is not None:
            model.prior_strength = prior_strength(step, *self.config.attention_prior_steps)

    def _prior_model(self) -> AutoregressiveModel | None:
        """The model, if it has to find the alignment by itself."""
        model = self.model
        if isinstance(model, AutoregressiveModel) and not model.uses_pointer:
            return model
        return None

    def loss(self, model: nn.Module, batch: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The model's own loss, with its parts by book."""
        out = model(**batch)
        return out.loss, _parts(out)

    def validate(self, model: nn.Module) -> Validation:
        """Loss, its parts and top-10 accuracy on held-out speakers, with fixed prompts."""
        chosen = np.linspace(0, len(self.valid_rows) - 1, _VALIDATION_ROWS).astype(int).tolist()
        totals: dict[str, list[float]] = {}
        device = next(model.parameters()).device
        torch.manual_seed(_VALIDATION_SEED)  # the NAR draws its stages
        for first in range(0, len(chosen), 8):
            examples = [
                self._example(self.valid_rows, index, _VALIDATION_SEED + first + number)
                for number, index in enumerate(chosen[first : first + 8])
            ]
            batch = {name: tensor.to(device) for name, tensor in self.collate(examples).items()}
            out = model(**batch)
            for name, value in {"loss": out.loss, **_parts(out)}.items():
                totals.setdefault(name, []).append(float(value))
        return Validation({name: float(np.nanmean(values)) for name, values in totals.items()})


def _joined(prompt: Example, target: Example) -> Example:
    return Example(
        torch.cat([prompt.symbols, target.symbols]),
        torch.cat([prompt.codes, target.codes], 1),
        torch.cat([prompt.pointer, target.pointer + len(prompt.symbols)]),
        torch.cat([prompt.counts, target.counts]),
        prompt.prompt_frames,
    )


def _parts(out: AutoregressiveOutput | NonAutoregressiveOutput) -> dict[str, Tensor]:
    """Named scalars of a model's output."""
    parts: dict[str, Any] = {"top10_accuracy": out.top10_accuracy}
    if isinstance(out, AutoregressiveOutput):
        parts["advance"] = out.advance_loss
        parts |= {f"book_{book + 1}": value for book, value in enumerate(out.book_losses)}  # type: ignore[arg-type]
    return parts
