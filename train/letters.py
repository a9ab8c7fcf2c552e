"""Train the letter-to-phoneme model that speaks where espeak-ng is not installed.

    python -m speechlm.train.letters SENTENCES.txt OUT

espeak-ng (extra `phonemes`) reads every word of the sentences; a share of the words and of the
sentences is held out, and the report says how often the model reads those as espeak does. About
eight minutes on one core.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import logging
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..errors import CorpusError, SpeechLMError
from ..slm.letters import (
    MAX_LETTERS,
    LetterConfig,
    LetterModel,
    LetterPhonemes,
    letter_ids,
    stored_letters,
)
from ..slm.normalize import normalize
from ..slm.phonemes import EspeakPhonemes
from ..tokenizer.files import write_atomically
from ..tokenizer.storage import restored
from .lexicon import build_lexicon, distance

_LOG = logging.getLogger(__name__)
VALID_SHARE = 0.05
MIN_WORDS = 200
_SHAPE = LetterConfig(phonemes="")  # the phonemes come from the words


class WordSet:
    """Words with espeak's phonemes, and spliced words that teach its rules beyond the corpus.

    Args:
        sentences: Normalized sentences.
        front_end: espeak.
        spliced: How many made-up words to add, each the head of one training word and the tail of
            another, joined at a vowel.
        seed: Of the split and the splicing.

    Raises:
        CorpusError: If there are too few words to learn from.
    """

    def __init__(
        self, sentences: Sequence[str], front_end: EspeakPhonemes, spliced: int, seed: int
    ) -> None:
        words = sorted({w for line in sentences for w in words_of(line)})
        if len(words) < MIN_WORDS:
            raise CorpusError(
                f"The sentences hold {len(words)} different words, at least {MIN_WORDS} are needed."
            )
        draw = random.Random(seed)
        held_out = set(draw.sample(words, round(len(words) * VALID_SHARE)))
        train = [w for w in words if w not in held_out]
        extra = sorted({_splice(draw, train) for _ in range(spliced)} - set(words))
        self.spoken = dict(zip(words, _isolated(front_end, words), strict=True))
        self.train = [(w, self.spoken[w]) for w in train if _fits(w, self.spoken[w])]
        self.valid = [(w, self.spoken[w]) for w in sorted(held_out) if self.spoken[w]]
        made_up = zip(extra, _isolated(front_end, extra), strict=True)
        self.spliced = [(w, p) for w, p in made_up if _fits(w, p)]


def words_of(line: str) -> list[str]:
    """Words of a sentence in lower case, of the model's letters, at least two each."""
    return [
        w
        for w in re.findall(r"[a-z']+", line.lower())
        if len(w.strip("'")) > 1 and len(w) <= MAX_LETTERS
    ]


def _isolated(front_end: EspeakPhonemes, words: Sequence[str]) -> list[str]:
    return [spoken.replace(" ", "") for spoken in front_end.phonemize_raw(words)]


def _fits(word: str, phonemes: str, slots: int = LetterConfig.slots) -> bool:
    """CTC needs a slot for each phoneme and one between equal neighbours."""
    repeats = sum(a == b for a, b in itertools.pairwise(phonemes))
    return 0 < len(phonemes) + repeats <= slots * len(word)


def _splice(draw: random.Random, words: Sequence[str]) -> str:
    head, tail = (re.split("(?=[aeiouy])", draw.choice(words)) for _ in range(2))
    cut, start = draw.randint(1, len(head)), draw.randint(0, len(tail) - 1)
    return ("".join(head[:cut]) + "".join(tail[start:]))[: MAX_LETTERS // 2]


def make_batch(pairs: Sequence[tuple[str, str]], phonemes: str) -> tuple[Tensor, Tensor, Tensor]:
    """Letters `[B, S]`, all target ids in one row, and the number of targets `[B]`."""
    letters = pad_sequence([letter_ids(word) for word, _ in pairs], batch_first=True)
    ids = {c: i for i, c in enumerate(phonemes, 1)}
    targets = torch.tensor([ids[c] for _, spoken in pairs for c in spoken])
    return letters, targets, torch.tensor([len(spoken) for _, spoken in pairs])


def draw_batches(
    words: WordSet, num_batches: int, batch_size: int, draw: random.Random
) -> Iterator[list[tuple[str, str]]]:
    """Batches of words of like length, for little padding.

    Made-up words are half of what is drawn, until real words alone have the last say.
    """
    batches: list[list[tuple[str, str]]] = []
    for index in range(num_batches):
        if not batches:
            count = batch_size * 16
            made_up = count // 2 if words.spliced and index < 0.75 * num_batches else 0
            pool = draw.choices(words.train, k=count - made_up)
            pool += draw.choices(words.spliced, k=made_up) if made_up else []
            pool.sort(key=lambda pair: len(pair[0]))
            batches = [pool[i : i + batch_size] for i in range(0, count, batch_size)]
            draw.shuffle(batches)
        yield batches.pop()


def train_model(
    words: WordSet, num_steps: int, seed: int, batch_size: int, shape: LetterConfig
) -> LetterModel:
    """Train with CTC under one cycle of the learning rate; averaged weights come back."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    phonemes = "".join(sorted({c for _, spoken in words.train + words.spliced for c in spoken}))
    model = LetterModel(replace(shape, phonemes=phonemes))
    # The average looks back over the last fifth of the run, 333 of 1800 steps.
    decay = max(0.0, 1 - 5.4 / num_steps)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, num_steps, pct_start=0.08)
    for step, pairs in enumerate(draw_batches(words, num_steps, batch_size, draw)):
        letters, targets, sizes = make_batch(pairs, phonemes)
        lengths = (letters > 0).sum(1) * model.config.slots
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(letters)
        loss = nn.functional.ctc_loss(
            scores.transpose(0, 1), targets, lengths, sizes, zero_infinity=True
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        average.update_parameters(model)
        if (step + 1) % max(1, num_steps // 12) == 0:
            _LOG.info("step %d of %d: loss %.3f", step + 1, num_steps, loss.item())
    model.load_state_dict(average.module.state_dict())
    return model.eval()


def measure(
    front_end: LetterPhonemes, words: WordSet, sentences: Sequence[tuple[str, str]]
) -> dict[str, float]:
    """Agreement with espeak on held-out words and sentences.

    Returns:
        `word_accuracy` and `word_phoneme_error_rate` of words never trained on, read alone;
        `sentence_phoneme_error_rate` of whole sentences, stress and spaces counted as symbols, and
        the same with both left out.
    """
    read = front_end.model.read([word for word, _ in words.valid])
    pairs = [(guess, true) for guess, (_, true) in zip(read, words.valid, strict=True)]
    spoken = [(front_end.phonemize(text), true) for text, true in sentences]
    return {
        "held_out_words": len(pairs),
        "word_accuracy": round(sum(a == b for a, b in pairs) / len(pairs), 4),
        "word_phoneme_error_rate": _error_rate(pairs),
        "held_out_sentences": len(spoken),
        "sentence_phoneme_error_rate": _error_rate(spoken),
        "sentence_sound_error_rate": _error_rate([(_sounds(a), _sounds(b)) for a, b in spoken]),
    }


def _error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    return round(sum(distance(a, b) for a, b in pairs) / sum(len(b) for _, b in pairs), 4)


def _sounds(phonemes: str) -> str:
    return re.sub("[ˈˌ ]", "", phonemes)


def train_letters(
    listing: Path,
    out: Path,
    *,
    num_steps: int = 1800,
    spliced: int = 60_000,
    min_count: int = 25,
    batch_size: int = 128,
    shape: LetterConfig = _SHAPE,
    seed: int = 0,
) -> dict[str, float]:
    """Train on a file of sentences and write `model.safetensors`, `config.json` and `lexicon.json`.

    Returns:
        The figures of `measure`, also written as `figures.json`.

    Raises:
        CorpusError: If the file is missing or holds too few words.
        MissingExtra: If espeak-ng is not installed.
    """
    if not listing.is_file():
        raise CorpusError(f"{listing} does not exist; give a text file with one sentence a line.")
    lines = [normalize(line) for line in listing.read_text("utf-8").splitlines()]
    sentences = [line for line in dict.fromkeys(lines) if words_of(line)]
    espeak = EspeakPhonemes()
    words = WordSet(sentences, espeak, spliced, seed)
    _LOG.info(
        "%d words, %d made up, %d held out", *map(len, (words.train, words.spliced, words.valid))
    )
    model = train_model(words, num_steps, seed, batch_size, shape)

    # The figures are of what is shipped: rounded weights.
    tensors = stored_letters(model)
    model.load_state_dict({n: t.float() for n, t in restored(tensors, str(out)).items()})
    random.Random(seed).shuffle(sentences)
    spoken = list(zip(sentences, espeak.phonemize_raw(sentences), strict=True))
    num_valid = max(1, round(len(spoken) * VALID_SHARE))

    @functools.cache
    def isolated(word: str) -> str:
        return words.spoken.get(word) or _isolated(espeak, [word])[0]

    lexicon = build_lexicon(spoken[num_valid:], isolated, model.read, min_count)
    figures = measure(LetterPhonemes(model, lexicon), words, spoken[:num_valid])
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "model.safetensors", save(tensors, {"format": "pt"}))
    write_atomically(out / "config.json", model.config.to_json().encode())
    write_atomically(out / "lexicon.json", _json(lexicon))
    write_atomically(out / "figures.json", _json(figures))
    return figures


def _json(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=0) + "\n").encode()


def main() -> None:
    """Command line of the module."""
    parser = argparse.ArgumentParser(prog="python -m speechlm.train.letters")
    parser.add_argument("sentences", type=Path, help="text file, one sentence a line")
    parser.add_argument("out", type=Path, help="folder of the model")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        figures = train_letters(
            options.sentences, options.out, num_steps=options.steps, seed=options.seed
        )
    except SpeechLMError as error:
        parser.exit(1, f"{error}\n")
    _LOG.info("%s", json.dumps(figures))


if __name__ == "__main__":
    main()
