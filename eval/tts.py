"""How well does a speaker speak: are the words there, is the voice the prompt's, how fast is it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import SpeechLMError
from ..tokenizer.audio import read_audio
from .listing import Sentence, read_listing
from .metrics import mean
from .plots import save_spectrograms
from .report import Report, Row
from .scorers import Scorers, mean_similarity, word_errors

if TYPE_CHECKING:
    from ..slm.speak import Speaker

NUM_EXAMPLES = 2
FAILED = "failed"  # the finish reason of a sentence that raised an error


def evaluate_tts(
    listing: Path,
    out: Path,
    *,
    speaker: Speaker,
    limit: int | None = None,
    seed: int = 0,
    scorers: Scorers | None = None,
) -> dict[str, Any]:
    """Speak a list of sentences and score them, beside the true recordings where there are some.

    Three systems are scored by the same scorers: the model; where the list names references, the
    ground truth, and the codec's copy of it, which is the best that any language model on this
    codec could do.

    Args:
        listing: JSON lines, see `read_listing`.
        out: Folder of the report: `report.json`, `report.md`, `items.jsonl`, spectrograms and
            sounds of two examples.
        speaker: The models to judge.
        limit: The first so many sentences.
        seed: Sentence i is spoken with the seed `seed + i`.
        scorers: Recognizer and speaker encoder; None takes those that are installed.

    Returns:
        What `report.json` holds; `["tables"]["systems"]` has one row a system.

    Raises:
        CorpusError: If the list cannot be used. A sentence that cannot be spoken does not stop the
            evaluation: it counts with the finish reason "failed" and no words heard.
    """
    sentences = read_listing(listing)[:limit]
    scorers = Scorers.installed() if scorers is None else scorers
    report = Report(out, "Text to speech", notes=list(scorers.notes))
    rate = speaker.codec.identity.sampling_rate
    model, truth, copy = _System("model"), _System("ground truth"), _System("codec copy")
    prompts: list[Tensor | None] = []
    compute_seconds = 0.0
    for index, sentence in enumerate(tqdm(sentences, desc="tts", unit="sentence")):
        prompt = read_audio(sentence.prompt, rate)
        prompts.append(scorers.voice(prompt, rate))
        sounds: dict[str, Tensor] = {"prompt": prompt}
        if sentence.reference is not None:
            original = read_audio(sentence.reference, rate)
            copied = speaker.codec.synthesize(speaker.codec.tokenize([original]))[0]
            truth.add(index, original, rate, scorers)
            copy.add(index, copied, rate, scorers)
            sounds |= {"ground truth": original, "codec copy": copied}
        try:
            speech = speaker.say(
                sentence.text, sentence.prompt, prompt_text=sentence.prompt_text, seed=seed + index
            )
        except SpeechLMError as error:
            report.note(f"{sentence.id}: {error}")
            model.add_failure(index)
        else:
            compute_seconds += speech.compute_seconds
            model.add(index, speech.waveform, speech.sampling_rate, scorers, speech.finish_reason)
            sounds["model"] = speech.waveform
            for line in speech.notes:
                report.note(line)
        if index < NUM_EXAMPLES:
            _keep_example(report, index + 1, sentence, sounds, rate)
    systems = [system for system in (model, truth, copy) if system.spoken]
    report.items = [row for system in systems for row in system.items(sentences, prompts)]
    report.facts = {
        "list": listing.name,
        "sentences": len(sentences),
        "speakers": len({s.speaker for s in sentences if s.speaker}) or None,
        "seed": seed,
        "codec": f"{speaker.codec.identity.codec_id} {speaker.codec.identity.revision}",
        "threads": torch.get_num_threads(),
        "model_x_realtime": model.seconds / compute_seconds if compute_seconds else None,
        "finish_reasons": dict(sorted(Counter(model.reasons).items())),
        **scorers.names,
    }
    lengths = dict(zip(truth.spoken, truth.durations, strict=True))
    report.tables["systems"] = [s.summary(sentences, prompts, lengths) for s in systems]
    return report.save()


@dataclass
class _System:
    """What one system said; entry i of each list is about sentence `spoken[i]`."""

    name: str
    spoken: list[int] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    heard: list[str | None] = field(default_factory=list)
    voices: list[Tensor | None] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(self.durations)

    def add(
        self, index: int, waveform: Tensor, rate: int, scorers: Scorers, reason: str = "end"
    ) -> None:
        self.spoken.append(index)
        self.durations.append(len(waveform) / rate)
        self.heard.append(scorers.hear(waveform, rate))
        self.voices.append(scorers.voice(waveform, rate))
        self.reasons.append(reason)

    def add_failure(self, index: int) -> None:
        """A sentence without speech: all of its words count as not heard."""
        self.spoken.append(index)
        self.durations.append(0.0)
        self.heard.append("")
        self.voices.append(None)
        self.reasons.append(FAILED)

    def items(self, sentences: Sequence[Sentence], prompts: Sequence[Tensor | None]) -> list[Row]:
        return [
            {
                "id": sentences[index].id,
                "system": self.name,
                "text": sentences[index].text,
                "heard": heard,
                "seconds": seconds,
                "similarity": mean_similarity([voice], [prompts[index]]),
                "finish_reason": reason,
            }
            for index, heard, seconds, voice, reason in zip(
                self.spoken, self.heard, self.durations, self.voices, self.reasons, strict=True
            )
        ]

    def summary(
        self,
        sentences: Sequence[Sentence],
        prompts: Sequence[Tensor | None],
        lengths: dict[int, float],
    ) -> Row:
        """One row of the report; `lengths` are the seconds of the true recordings by index."""
        row: Row = {"system": self.name, "sentences": len(self.spoken)}
        score = word_errors([sentences[i].text for i in self.spoken], self.heard)
        if score is not None:
            row["wer"] = score.word_error_rate
            row["cer"] = score.character_error_rate
            row |= {"deleted_words": score.deletions, "inserted_words": score.insertions}
        own = [prompts[i] for i in self.spoken]
        others = [other_prompt(sentences, i) for i in self.spoken]
        row["similarity_to_prompt"] = mean_similarity(self.voices, own)
        row["similarity_to_other_prompts"] = mean_similarity(
            self.voices, [None if i is None else prompts[i] for i in others]
        )
        row["seconds"] = self.seconds
        row["duration_ratio"] = mean(
            [
                seconds / lengths[index]
                for index, seconds in zip(self.spoken, self.durations, strict=True)
                if index in lengths and seconds
            ]
        )
        return row


def other_prompt(sentences: Sequence[Sentence], index: int) -> int | None:
    """The next sentence of the list, around its end, whose prompt is another voice.

    Where speakers are named they decide, otherwise the prompts' paths do. The similarity to that
    prompt is what a voice scores that was not cloned at all.
    """
    own = sentences[index]

    def differs(other: Sentence) -> bool:
        if own.speaker and other.speaker:
            return other.speaker != own.speaker
        return other.prompt != own.prompt

    around = [*range(index + 1, len(sentences)), *range(index)]
    return next((other for other in around if differs(sentences[other])), None)


def _keep_example(
    report: Report, number: int, sentence: Sentence, sounds: dict[str, Tensor], rate: int
) -> None:
    for title, sound in sounds.items():
        name = f"example-{number}-{title.replace(' ', '-')}.wav"
        report.add_sound(name, f"{title}, example {number}: {sentence.text}", sound, rate)
    report.add_figure(
        f"example-{number}.png",
        f"Example {number}: {sentence.text}",
        lambda path: save_spectrograms(
            path, {title: (sound, rate) for title, sound in sounds.items()}
        ),
    )
