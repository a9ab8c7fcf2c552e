"""How a list of sentences is drawn from held-out speech: the two protocols of VALL-E.

Both protocols are of VALL-E (2023), section 5.1. Cross-sentence: the prompt is another utterance of
the same speaker. Continual: the prompt is the beginning of the utterance itself, about three
seconds with their transcript, and the rest of its text is to be spoken.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import torch

from ..data_prep.manifest import Utterance
from ..errors import ConfigError, CorpusError
from ..tokenizer.audio import read_audio
from .listing import PROTOCOLS, Sentence, write_listing
from .recognizer import Transcriber
from .sentence_lists import PROMPT_SECONDS, can_prompt, voices_of
from .transcripts import normalise_transcript

MIN_WORDS = 4
CONTINUAL_SECONDS = (4.0, 10.0)  # VALL-E's choice of utterances
CUT_SECONDS = (2.0, 4.0)  # around its 3 s, so that the cut can fall between two words
_CUT_RATE_HZ = 16_000
_PAUSE_S = 0.08  # shorter silences are also inside of words, before a burst
_PAUSE_DB = 30.0  # below the loudest moment
_SEARCH_S = 0.15  # durations are right to about half of it


def make_list(
    manifest: Path,
    out: Path,
    *,
    protocol: str = "cross",
    count: int = 20,
    split: str = "valid",
    seed: int = 0,
    recognizer: Transcriber | None = None,
) -> list[Sentence]:
    """Draw sentences with true recordings from held-out speech and write them as a list.

    Speakers take turns, so `count` sentences cover as many voices as there are. No utterance is
    drawn twice as a text. The same manifest and seed give the same list.

    - `cross`: prompts are other utterances, without their transcripts.
    - `continual`: utterances of 4 to 10 s, cut between two words 2 to 4 s after their start. The
      word boundary comes from the phonemes' durations in the manifest; without these from a
      recognizer, which must hear exactly the transcript's first words before the cut.

    Args:
        manifest: Manifest of `prepare`.
        out: The list to write, JSON lines.
        protocol: `cross` or `continual`.
        count: Sentences wanted; fewer come back where the split has fewer.
        split: Held-out split.
        seed: Of the draw.
        recognizer: For `continual` without durations.

    Raises:
        ConfigError: If the protocol is another one.
        CorpusError: If the split has nothing that serves.
    """
    if protocol not in ("cross", "continual"):
        raise ConfigError(
            f"The protocol {protocol} is not drawn from a manifest; name one of "
            f"{', '.join(PROTOCOLS)}."
        )
    draw = random.Random(seed)
    turns: list[Iterator[Sentence]] = []
    voices = voices_of(manifest, split)
    for speaker in sorted(voices):
        spoken = sorted(voices[speaker], key=lambda utterance: utterance.id)
        draw.shuffle(spoken)
        turns.append(_cross(spoken) if protocol == "cross" else _continual(spoken, recognizer))
    draw.shuffle(turns)
    sentences = _take_turns(turns, count)
    if not sentences and protocol == "cross":
        raise CorpusError(
            f"{manifest} has no speaker in the split {split} with a text of {MIN_WORDS} words and "
            f"another recording of {PROMPT_SECONDS[0]:.0f} to {PROMPT_SECONDS[1]:.0f} s as prompt."
        )
    if not sentences:
        raise CorpusError(
            f"{manifest} has no utterance in the split {split} of {CONTINUAL_SECONDS[0]:.0f} to "
            f"{CONTINUAL_SECONDS[1]:.0f} s that can be cut between two words; give phonemes with "
            "durations (`speechlm align`), or install a recognizer (`make scorers`)."
        )
    write_listing(out, sentences)
    return sentences


def _take_turns(turns: Sequence[Iterator[Sentence]], count: int) -> list[Sentence]:
    taken: list[Sentence] = []
    waiting = list(turns)
    while waiting and len(taken) < count:
        for turn in list(waiting):
            sentence = next(turn, None)
            if sentence is None:
                waiting.remove(turn)
            elif len(taken) < count:
                taken.append(sentence)
    return taken


def _cross(spoken: Sequence[Utterance]) -> Iterator[Sentence]:
    """Each text of one speaker with the next utterance that can be a prompt."""
    for index, text in enumerate(spoken):
        others = [*spoken[index + 1 :], *spoken[:index]]
        prompts = [other for other in others if can_prompt(other)]
        if prompts and len(text.text.split()) >= MIN_WORDS:
            yield Sentence(
                text.id,
                text.text,
                prompts[0].audio,
                reference=text.audio,
                speaker=text.speaker,
                protocol="cross",
            )


def _continual(spoken: Sequence[Utterance], recognizer: Transcriber | None) -> Iterator[Sentence]:
    """Each utterance of one speaker that can be cut between two words."""
    shortest, longest = CONTINUAL_SECONDS
    for utterance in spoken:
        if not shortest <= utterance.seconds <= longest:
            continue
        if utterance.durations_s:
            cut = _cut_by_durations(utterance)
        else:
            cut = None if recognizer is None else _cut_by_ear(utterance, recognizer)
        if cut is None:
            continue
        num_words, seconds = cut
        words = utterance.text.split()
        if num_words and len(words) - num_words >= MIN_WORDS:
            yield Sentence(
                utterance.id,
                " ".join(words[num_words:]),
                utterance.audio,
                " ".join(words[:num_words]),
                utterance.audio,
                utterance.speaker,
                "continual",
                cut_s=round(seconds, 3),
            )


def _cut_by_durations(utterance: Utterance) -> tuple[int, float] | None:
    """(words before the cut, its seconds): the longest pause between two words in the range.

    None where the phonemes are not as many words as the text, or there is no pause.
    """
    phonemes, durations = utterance.phonemes, utterance.durations_s
    if not phonemes or not durations or len(phonemes.split()) != len(utterance.text.split()):
        return None
    ends = list(accumulate(durations))  # ends[i + 1] is the end of phoneme i
    found: list[tuple[float, float, int, float]] = []
    for gap in re.finditer(r"[^\w\s]*\s+[^\w\s]*", phonemes):
        first, last = gap.span()
        middle = (ends[first] + ends[last]) / 2
        if CUT_SECONDS[0] <= middle <= CUT_SECONDS[1]:
            pause = ends[last] - ends[first]
            words = len(phonemes[:last].split())
            found.append((pause, -abs(middle - sum(CUT_SECONDS) / 2), words, middle))
    if not found:
        return None
    _, _, words, middle = max(found)
    waveform = read_audio(utterance.audio, _CUT_RATE_HZ)
    seconds = _pause(waveform, middle - _SEARCH_S, middle + _SEARCH_S)
    return None if seconds is None else (words, seconds)


def _cut_by_ear(utterance: Utterance, recognizer: Transcriber) -> tuple[int, float] | None:
    """(words before the cut, its seconds) at the quietest pause, if the words before it are heard.

    None where the recognizer hears anything but the transcript's first words.
    """
    waveform = read_audio(utterance.audio, _CUT_RATE_HZ)
    seconds = _pause(waveform, *CUT_SECONDS)
    if seconds is None:
        return None
    before = waveform[: round(seconds * _CUT_RATE_HZ)]
    heard = normalise_transcript(recognizer.transcribe(before, _CUT_RATE_HZ))
    words = utterance.text.split()
    for number in range(1, len(words)):
        if normalise_transcript(" ".join(words[:number])) == heard:
            return number, seconds
    return None


def _pause(waveform: torch.Tensor, start_s: float, end_s: float) -> float | None:
    """Seconds at the middle of the quietest 80 ms within a range; None if nobody pauses there."""
    size = round(_PAUSE_S * _CUT_RATE_HZ)
    step = size // 8
    start = max(0, round(start_s * _CUT_RATE_HZ))
    part = waveform[start : round(end_s * _CUT_RATE_HZ)]
    if len(part) < size:
        return None
    power = part.unfold(0, size, step).square().mean(dim=1)
    loudest = float(waveform.unfold(0, size, step).square().mean(dim=1).max())
    if float(power.min()) > loudest * 10 ** (-_PAUSE_DB / 10):
        return None
    return (start + int(power.argmin()) * step + size // 2) / _CUT_RATE_HZ
