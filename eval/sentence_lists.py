"""Sentences that are given, dealt out to voices by turns: the 200 hard ones, or a user's own.

Nobody has recorded them in these voices, so one recording of a voice is enough, and nobody needs to know
what it says.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path

from ..data_prep.manifest import Utterance, read_manifest
from ..data_prep.readers.entry import AUDIO_SUFFIXES
from ..data_prep.synthesis.plan import texts_of
from ..errors import CorpusError
from ..slm.speak import shipped_voices
from .listing import Sentence, write_listing

# A shorter prompt says too little of a voice; of a longer one a speaker only uses a part.
PROMPT_SECONDS = (2.0, 20.0)


def make_hard_list(
    out: Path,
    manifest: Path | None = None,
    *,
    count: int | None = None,
    split: str = "valid",
    seed: int = 0,
    references: Path | None = None,
) -> list[Sentence]:
    """Write the 200 hard sentences as a list.

    Args:
        out: The list to write, JSON lines.
        manifest: Held-out voices for the prompts, which take turns; None for the shipped voices.
        count: So many of the sentences, evenly spread; None for all.
        split: Held-out split of the manifest.
        seed: Which recording of a voice is its prompt.
        references: Folder of recordings of the sentences, each named by its id (`digits-01.wav`),
            for the rows of the ground truth and the codec's copy.

    Raises:
        CorpusError: If the manifest has no recording that can be a prompt, or the folder no
            recording of a sentence.
    """
    prompts = _prompts(manifest, split, seed)
    texts = hard_sentences()
    recordings: dict[str, Path] = {}
    if references is not None:
        recordings = {
            path.stem: path.resolve()
            for path in sorted(references.rglob("*"))
            if path.suffix.lower() in AUDIO_SUFFIXES
        }
        if not any(name in recordings for name, _, _ in texts):
            raise CorpusError(
                f"{references} holds no recording of a hard sentence; name each by the sentence's "
                f"id, as {texts[0][0]}.wav."
            )
    if count is not None and count < len(texts):
        texts = [texts[(2 * i + 1) * len(texts) // (2 * count)] for i in range(count)]
    sentences = []
    for number, (name, kind, text) in enumerate(texts):
        speaker, prompt = prompts[number % len(prompts)]
        reference = recordings.get(name)
        sentences.append(Sentence(name, text, prompt, None, reference, speaker, "hard", kind))
    write_listing(out, sentences)
    return sentences


def make_given_list(
    out: Path,
    texts: Path,
    manifest: Path | None = None,
    *,
    count: int | None = None,
    split: str = "valid",
    seed: int = 0,
) -> list[Sentence]:
    """Write given sentences as a list of cross-sentence cloning without true recordings.

    Args:
        out: The list to write, JSON lines.
        texts: A text file, a sentence a line, or JSON lines with a `text`, such as another list.
        manifest: Voices for the prompts, which take turns in the order of their names; None for the
            shipped ones.
        count: The first so many of the sentences; None for all.
        split: Split of the manifest.
        seed: Which recording of a voice is its prompt.

    Raises:
        CorpusError: If the manifest has no recording that can be a prompt, or `texts` is missing,
            empty or no such file.
    """
    prompts = _prompts(manifest, split, seed)
    sentences = []
    for number, text in enumerate(islice((text for text in texts_of(texts) if text), count)):
        speaker, prompt = prompts[number % len(prompts)]
        name = f"{number + 1:04d}"
        sentences.append(Sentence(name, text, prompt, speaker=speaker, protocol="cross"))
    if not sentences:
        raise CorpusError(f"{texts} holds no sentence; write one a line.")
    write_listing(out, sentences)
    return sentences


def hard_sentences() -> list[tuple[str, str, str]]:
    """(id, kind, text) of the 200 sentences in `eval/sentences/hard-200.txt`."""
    source = files(__package__) / "sentences" / "hard-200.txt"
    kind, number = "", 0
    sentences = []
    for line in source.read_text("utf-8").splitlines():
        if line.startswith("# "):
            kind, number = line[2:], 0
        elif line:
            number += 1
            sentences.append((f"{kind.replace(' ', '-')}-{number:02d}", kind, line))
    return sentences


def voices_of(manifest: Path, split: str) -> dict[str, list[Utterance]]:
    """The utterances of each named speaker in a split."""
    voices: dict[str, list[Utterance]] = {}
    for utterance in read_manifest(manifest):
        if utterance.split == split and utterance.speaker:
            voices.setdefault(utterance.speaker, []).append(utterance)
    return voices


def can_prompt(utterance: Utterance) -> bool:
    """Whether a recording is long enough, and not too long, to show a voice."""
    return PROMPT_SECONDS[0] <= utterance.seconds <= PROMPT_SECONDS[1]


def _prompts(manifest: Path | None, split: str, seed: int) -> Sequence[tuple[str, Path]]:
    """(speaker, recording), one of each voice."""
    if manifest is None:
        return list(shipped_voices().items())
    draw = random.Random(seed)
    prompts = []
    for speaker, spoken in sorted(voices_of(manifest, split).items()):
        serving = sorted(filter(can_prompt, spoken), key=lambda utterance: utterance.id)
        if serving:
            prompts.append((speaker, draw.choice(serving).audio))
    if not prompts:
        raise CorpusError(
            f"{manifest} has no recording of {PROMPT_SECONDS[0]:.0f} to {PROMPT_SECONDS[1]:.0f} s of a named "
            f"speaker in the split {split} to prompt with."
        )
    return prompts
