"""The built-in letter-to-phoneme model: English words to espeak's phonemes without espeak.

A small Transformer reads the letters of a word and writes three slots a letter, of which CTC
(Graves et al. 2006) keeps what is not blank: no autoregression, one pass for all words of a text.
Frequent words sound different in a sentence ("the" before a vowel, "of the" in one breath); those
forms come from a lexicon counted on espeak's reading of sentences. Trained by
`speechlm.train.letters`.
"""

from __future__ import annotations

import importlib.resources
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.resources.abc import Traversable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CorruptWeights, MissingExtra, UnsupportedText
from ..tokenizer.storage import restored, stored
from .normalize import normalize
from .text import require_latin, require_text

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
MAX_LETTERS = 40  # of one word; longer ones are read in parts
MAX_PHRASE = 3  # words that the lexicon can join
LETTER_NAMES = (
    "ˈeɪ bˈiː sˈiː dˈiː ˈiː ˈɛf dʒˈiː ˈeɪtʃ ˈaɪ dʒˈeɪ kˈeɪ ˈɛl ˈɛm ˈɛn ˈoʊ pˈiː kjˈuː ˈɑːɹ ˈɛs "
    "tˈiː jˈuː vˈiː dˈʌbəljˌuː ˈɛks wˈaɪ zˈiː"
).split()
_PAD, _EDGE = 0, 1  # letter ids; the letters follow
_INNER = ("encoder.", "convolutions.")
_BLANK = 0  # phoneme id; the phonemes follow
# Two or three capitals, or more that no vowel makes readable; a plural or possessive s may follow.
_ACRONYM = re.compile(r"([A-Z]{2,3}|[B-DF-HJ-NP-TV-XZ]{4,})('?s)?")
_VOWELS = frozenset("aeiouæɐɑɒɔəɚɛɜɪʊʌᵻ")
_NOTE = (
    "The phonemes extra is not installed: the built-in letter-to-phoneme model is used "
    "(pip install -e '.[phonemes]' in a checkout)."
)


@dataclass(frozen=True)
class LetterConfig:
    """Shape of the letter model.

    Attributes:
        phonemes: The phonemes it can write, one character each, in the order of their ids from 1.
        hidden_size: D.
        num_layers: Transformer layers after the convolutions.
        num_heads: Attention heads.
        ffn_size: Width of the feed-forward layers.
        slots: Output slots a letter; "x" needs two phonemes and a stress mark.
    """

    phonemes: str
    hidden_size: int = 128
    num_layers: int = 4
    num_heads: int = 4
    ffn_size: int = 384
    slots: int = 3

    def to_json(self) -> str:
        """The content of `config.json`."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> LetterConfig:
        """Read what `to_json` wrote.

        Raises:
            CorruptWeights: If keys are missing or unknown, or values are absurd.
        """
        try:
            raw = json.loads(text)
            config = cls(str(raw.pop("phonemes")), **{key: int(raw.pop(key)) for key in list(raw)})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CorruptWeights(
                f"The letter model's config.json is not readable ({error})."
            ) from error
        sizes = [getattr(config, field.name) for field in fields(cls)[1:]]
        if not all(1 <= size <= 4096 for size in sizes) or config.hidden_size % config.num_heads:
            raise CorruptWeights(f"The letter model's config.json holds impossible sizes {sizes}.")
        return config


class LetterModel(nn.Module):
    """Letters of words to CTC scores over phonemes.

    Convolutions see the neighbouring letters, which settle most sounds; attention sees the whole
    word, which settles stress.
    """

    def __init__(self, config: LetterConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.letters = nn.Embedding(len(LETTERS) + 2, width, padding_idx=_PAD)
        self.positions = nn.Parameter(torch.randn(MAX_LETTERS + 2, width) * 0.02)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(2))
        layer = nn.TransformerEncoderLayer(
            width, config.num_heads, config.ffn_size, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.slots * (len(config.phonemes) + 1))

    def forward(self, letters: Tensor) -> Tensor:
        """Scores of every slot.

        Args:
            letters: int64 `[B, S]` from `letter_ids`, padded with 0.

        Returns:
            Log-probabilities `[B, S * slots, 1 + len(phonemes)]`, blank first.
        """
        padding = letters == _PAD
        hidden = self.letters(letters) + self.positions[: letters.shape[1]]
        for convolution in self.convolutions:
            hidden = hidden.masked_fill(padding[..., None], 0.0)
            hidden = hidden + nn.functional.gelu(
                convolution(hidden.transpose(1, 2)).transpose(1, 2)
            )
        hidden = self.norm(self.encoder(hidden, src_key_padding_mask=padding))
        scores: Tensor = self.head(hidden)
        return scores.unflatten(-1, (self.config.slots, -1)).flatten(1, 2).float().log_softmax(-1)

    @torch.inference_mode()
    def read(self, words: Sequence[str]) -> list[str]:
        """Phonemes of words of `LETTERS`, by the best path through the slots."""
        if not words:
            return []
        letters = nn.utils.rnn.pad_sequence([letter_ids(w) for w in words], batch_first=True)
        best = self(letters).argmax(-1)
        read = []
        for row, word in zip(best.tolist(), words, strict=True):
            slots = row[: (len(word) + 2) * self.config.slots]
            kept = [p for i, p in enumerate(slots) if p != _BLANK and (i == 0 or slots[i - 1] != p)]
            read.append("".join(self.config.phonemes[p - 1] for p in kept))
        return read


def stored_letters(model: LetterModel) -> dict[str, Tensor]:
    """The tensors of `model.safetensors`: 8 bits a weight inside the network, half precision at its ends.

    Rounded embeddings and scores would misread 4 held-out words of 1,139 more, and save 28 kB.
    """
    inner = {n: t for n, t in model.state_dict().items() if n.startswith(_INNER)}
    outer = {n: t for n, t in model.state_dict().items() if n not in inner}
    return stored(inner, "int8") | stored(outer, "half")


def letter_ids(word: str) -> Tensor:
    """int64 `[len(word) + 2]`: the letters between two edge marks."""
    return torch.tensor([_EDGE, *(LETTERS.index(c) + 2 for c in word[:MAX_LETTERS]), _EDGE])


class LetterPhonemes:
    """Text to phonemes by the letter model and its lexicon, in espeak's spelling.

    Args:
        model: The letter model, in evaluation mode.
        lexicon: Words and phrases to their forms before a vowel, before a consonant and at the end
            of a clause, or to one form for all three.
        note: What to tell the user, or None.
    """

    def __init__(
        self, model: LetterModel, lexicon: dict[str, list[str]], note: str | None = None
    ) -> None:
        self.model = model
        self.lexicon = lexicon
        self.note = note
        self._known: dict[str, str] = {}

    @classmethod
    def shipped(cls, language: str = "en-us") -> LetterPhonemes:
        """The model that comes with the package.

        Raises:
            MissingExtra: If the language is not American English, which it alone knows.
        """
        if language != "en-us":
            raise MissingExtra(
                f"The built-in letter-to-phoneme model speaks en-us, not {language}; "
                "install the extra `phonemes` for espeak-ng (pip install -e '.[phonemes]' in a checkout)."
            )
        folder = importlib.resources.files(str(__package__)) / "weights" / "letters"
        return cls.from_folder(folder, note=_NOTE)

    @classmethod
    def from_folder(cls, folder: Traversable, note: str | None = None) -> LetterPhonemes:
        """Read `config.json`, `lexicon.json` and `model.safetensors`.

        Raises:
            CorruptWeights: If a file is missing or does not fit the others.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            config = LetterConfig.from_json((folder / "config.json").read_text("utf-8"))
            lexicon = json.loads((folder / "lexicon.json").read_text("utf-8"))
            tensors = load((folder / "model.safetensors").read_bytes())
        except (OSError, ValueError, SafetensorError) as error:
            raise CorruptWeights(
                f"The letter model in {folder} is not readable ({error}); install speechlm again."
            ) from error
        if not isinstance(lexicon, dict) or not all(map(_is_entry, lexicon.values())):
            raise CorruptWeights(
                f"The lexicon in {folder} holds an entry that is not 1 or 3 strings."
            )
        tensors = restored(tensors, f"{folder}/model.safetensors")
        model = LetterModel(config)
        if not all(bool(t.isfinite().all()) for t in tensors.values()):
            raise CorruptWeights(f"The letter model in {folder} holds values that are not finite.")
        try:
            model.load_state_dict({name: t.float() for name, t in tensors.items()})
        except RuntimeError as error:
            raise CorruptWeights(
                f"The letter model in {folder} does not fit its config.json ({error})."
            ) from error
        return cls(model.eval(), lexicon, note)

    def phonemize(self, text: str) -> str:
        """The phonemes of a text, punctuation kept.

        Raises:
            UnsupportedText: If the text is empty, too long, or has no word in Latin letters.
        """
        spoken = _fold(require_latin(normalize(require_text(text))))
        if spoken.isupper():  # a headline, not one acronym after the other
            spoken = spoken.lower()
        clauses = re.split(r'([;:,.!?—…"()]+)', spoken)
        words = [word for clause in clauses[::2] for word in re.findall(r"[A-Za-z']+", clause)]
        if not any(c.isalpha() for word in words for c in word):
            raise UnsupportedText(
                f"There is nothing to speak in {text[:40]!r}: the built-in model reads words in "
                "Latin letters; give such a text."
            )
        self._learn(words)
        return "".join(
            part if i % 2 else self._read_clause(part) for i, part in enumerate(clauses)
        ).strip()

    def _learn(self, words: Sequence[str]) -> None:
        """Read all words that are not known yet in one pass, shortest first to pad little."""
        if len(self._known) > 50_000:
            self._known.clear()
        parts = {part for word in words for part in _spellings(word) if len(part) > 1}
        new = sorted(parts - self._known.keys() - self.lexicon.keys(), key=lambda w: (len(w), w))
        for start in range(0, len(new), 256):
            batch = new[start : start + 256]
            self._known.update(zip(batch, self.model.read(batch), strict=True))

    def _read_clause(self, clause: str) -> str:
        """Phonemes of the words between two marks, outer blanks kept."""
        tokens = re.findall(r"(-?)([A-Za-z'][A-Za-z']*)", clause)
        words = [word for _, word in tokens if word.strip("'")]
        glued = [hyphen == "-" for hyphen, word in tokens if word.strip("'")]
        groups, start = [], 0
        while start < len(words):
            size = self._phrase_length(words[start:], glued[start:])
            groups.append((words[start : start + size], glued[start]))
            start += size
        spoken: list[str] = []
        following: str | None = (
            None  # the sound after the word decides its form: from right to left
        )
        for group, hyphen in reversed(groups):
            phonemes = self._read_group(group, following)
            spoken.insert(
                0, phonemes if hyphen or len(spoken) == len(groups) - 1 else f" {phonemes}"
            )
            following = phonemes
        lead = " " if clause[:1].isspace() else ""
        tail = " " if clause[-1:].isspace() and words else ""
        return lead + "".join(spoken).strip() + tail

    def _phrase_length(self, words: Sequence[str], glued: Sequence[bool]) -> int:
        for size in range(min(MAX_PHRASE, len(words)), 1, -1):
            if not any(glued[:size]) and " ".join(words[:size]).lower() in self.lexicon:
                return size
        return 1

    def _read_group(self, group: Sequence[str], following: str | None) -> str:
        key = " ".join(group).lower()
        if forms := self.lexicon.get(key):
            return forms[context_of(following) if len(forms) == 3 else 0]
        *before, last = map(self._read_part, _spellings(group[0]))
        # One main stress a word: the last letter of an acronym, the last piece of a long word.
        spoken = "".join(before).replace("ˈ", "ˌ") + last
        acronym = _ACRONYM.fullmatch(group[0])
        return link(spoken + (_plural_sound(spoken) if acronym and acronym[2] else ""), following)

    def _read_part(self, part: str) -> str:
        if len(part) == 1:
            return LETTER_NAMES[LETTERS.index(part)] if part.isalpha() else ""
        forms = self.lexicon.get(part)
        return forms[-1] if forms else self._known[part]


def context_of(following: str | None) -> int:
    """Which of three forms fits: before a vowel 0, before a consonant 1, at the end 2."""
    if following is None:
        return 2
    return 0 if following.lstrip("ˈˌ")[:1] in _VOWELS else 1


def link(phonemes: str, following: str | None) -> str:
    """The r that American speech puts between a final r-coloured vowel and the next vowel."""
    if context_of(following) == 0 and phonemes.endswith(("ɚ", "ɜː")):
        return phonemes + "ɹ"
    return phonemes


def _spellings(word: str) -> list[str]:
    """The word's readable parts: itself, an acronym's letters, or pieces of an endless word."""
    if acronym := _ACRONYM.fullmatch(word):
        return list(acronym[1].lower())
    lower = word.lower()
    return [lower[i : i + MAX_LETTERS] for i in range(0, len(lower), MAX_LETTERS)]


def _plural_sound(spoken: str) -> str:
    """How an s sounds after these phonemes: "FBI's", "CDs", "a UPS's"."""
    if spoken.endswith(tuple("szʃʒ")):
        return "ᵻz"
    return "s" if spoken.endswith(tuple("ptkfθ")) else "z"


def _fold(text: str) -> str:
    """Accents taken off, so that "café" is read as "cafe"."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _is_entry(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) in (1, 3) and all(isinstance(v, str) for v in value)
    )
