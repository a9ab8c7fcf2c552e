"""How well does a speaker speak: are the words there, is the voice the prompt's, how fast is it."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..errors import SpeechLMError
from ..slm.lines import Line
from ..tokenizer.audio import read_audio, write_audio
from ..tokenizer.model_folder import fingerprint
from .faults import FAULTS, find_faults, sound_span
from .journal import ItemJournal
from .listing import Sentence, read_listing
from .plots import save_spectrograms
from .report import Report, Row
from .scorers import Scorers, is_nearest, mean_similarity, word_errors
from .speech_plots import save_system_scores
from .speech_tables import COPY, MODEL, TRUTH, fault_rows, kind_rows, system_rows
from .transcripts import normalise_transcript

if TYPE_CHECKING:
    from ..slm.speak import Speaker, Speech

NUM_EXAMPLES = 2
NUM_STREAMED = 5  # sentences whose first audio is waited for
BATCH_SIZE = 8  # sentences spoken at once by a speaker that can
FAILED = "failed"  # the finish reason of a sentence that raised an error
JOURNAL_NAME = "tts.journal"


def evaluate_tts(
    listing: Path,
    out: Path,
    *,
    speaker: Speaker,
    limit: int | None = None,
    seed: int = 0,
    scorers: Scorers | None = None,
    batch_size: int = BATCH_SIZE,
    num_candidates: int = 1,
    keep_sounds: bool = False,
) -> dict[str, Any]:
    """Speak a list of sentences and score them, beside the true recordings where there are some.

    Three systems are scored by the same scorers: the model; where the list names references, the
    ground truth, and the codec's copy of it, which is the best that any language model on this
    codec could do. Killed and called again, it goes on after the last whole sentence.

    Args:
        listing: JSON lines, see `read_listing`.
        out: Folder of the report: `report.json`, `report.md`, `items.jsonl`, PNG plots and the
            sounds of two examples.
        speaker: The models to judge.
        limit: The first so many sentences.
        seed: Sentence i is spoken with the seed `seed + i`.
        scorers: Recognizer, speaker encoder and MOS predictor; None takes those that are installed.
        batch_size: Sentences spoken at once. One gives the speed that a user of `say` sees, more
            give that of a list; in fp32 the sentences are the same.
        num_candidates: Takes of each sentence, of which `say` keeps one.
        keep_sounds: Write every sentence that the model spoke to `sounds/` in the folder.

    Returns:
        What `report.json` holds; `["tables"]["systems"]` has one row a system.

    Raises:
        CorpusError: If the list cannot be used. A sentence that cannot be spoken does not stop the
            evaluation: it counts with the finish reason "failed" and no words heard.
    """
    sentences = read_listing(listing)[:limit]
    scorers = Scorers.installed(quality=True) if scorers is None else scorers
    report = Report(out, "Text to speech", notes=list(scorers.notes))
    sounds = out / "sounds" if keep_sounds else None
    judge = _Judge(speaker, scorers, sentences, report, seed, num_candidates, sounds)
    made_of = [
        hashlib.sha256(listing.read_bytes()).hexdigest(),
        seed,
        batch_size,
        num_candidates,
        keep_sounds,
        _revisions(speaker),
        scorers.names,
    ]
    with ItemJournal(out / JOURNAL_NAME, made_of) as journal:
        known = set(journal.known)
        waiting = [index for index in range(len(sentences)) if index not in known]
        size = batch_size if hasattr(speaker, "say_many") else 1
        bar = tqdm(total=len(sentences), initial=len(known), desc="tts", unit="sentence")
        with bar:
            for first in range(0, len(waiting), size):
                batch = waiting[first : first + size]
                for index, speech in zip(batch, judge.speak(batch), strict=True):
                    journal.add(index, *judge.score(index, speech))
                    bar.update()
        results = [journal.known[index] for index in range(len(sentences))]
        first_audio = judge.first_audio_seconds()
        items = [row for result in results for row in result["rows"]]
        for note in (note for result in results for note in result["notes"]):
            report.note(note)
        report.items = sorted(items, key=lambda row: (MODEL, TRUTH, COPY).index(row["system"]))
        num_true = sum(sentence.reference is not None for sentence in sentences)
        if 0 < num_true < len(sentences):
            report.note(
                f"True recordings are known of {num_true} of the {len(sentences)} sentences; the "
                "rows of the ground truth and the codec's copy are about these only."
            )
        report.facts = {
            "list": listing.name,
            **_facts(speaker, sentences, items),
            "seed": seed,
            "sentences_at_once": size,
            "candidates": num_candidates,
            "first_audio_ms": None if first_audio is None else 1000 * first_audio,
            "sentences_gone_on_from": len(known) or None,
            **scorers.names,
        }
        _fill_tables(report)
        for number in range(1, min(NUM_EXAMPLES, len(sentences)) + 1):
            judge.show_example(number)
        found = report.save()
        journal.discard()
    return found


def _facts(
    speaker: Speaker, sentences: Sequence[Sentence], items: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What was spoken, by which models and how fast."""
    mine = [row for row in items if row["system"] == MODEL]
    timed = [row for row in mine if row["compute_seconds"]]
    seconds, spent = (sum(row[key] for row in timed) for key in ("seconds", "compute_seconds"))
    return {
        "sentences": len(sentences),
        "speakers": len({s.speaker for s in sentences if s.speaker}) or None,
        "protocols": sorted({s.protocol for s in sentences if s.protocol}) or None,
        "codec": f"{speaker.codec.identity.codec_id} {speaker.codec.identity.revision}",
        "precision": _precision(speaker),
        "threads": torch.get_num_threads(),
        "model_x_realtime": seconds / spent if timed else None,
        "finish_reasons": dict(sorted(Counter(row["finish_reason"] for row in mine).items())),
    }


def _fill_tables(report: Report) -> None:
    systems = report.tables["systems"] = system_rows(report.items)
    faults = report.tables["faults"] = fault_rows(report.items)
    if kinds := kind_rows(report.items):
        report.tables["kinds"] = kinds
    for name, meaning in FAULTS.items():
        if any(row[name] for row in faults):
            report.note(f"{name.replace('_', ' ').capitalize()} counts sentences that {meaning}.")
    report.add_figure(
        "systems.png",
        "Each system: figures with 95 % intervals over the sentences, and faults",
        lambda path: save_system_scores(path, systems, faults),
    )


@dataclass
class _Judge:
    """Speaks the sentences of a list one by one and gives the rows of each."""

    speaker: Speaker
    scorers: Scorers
    sentences: Sequence[Sentence]
    report: Report
    seed: int
    num_candidates: int
    sounds: Path | None
    _voices: dict[tuple[Path, float | None], Tensor | None] = field(default_factory=dict)

    @property
    def rate(self) -> int:
        return self.speaker.codec.identity.sampling_rate

    def speak(self, batch: Sequence[int]) -> list[Speech | SpeechLMError]:
        """What the model says, or why it does not, for each of these sentences.

        The time of a batch, prompts included, is shared out by the seconds spoken.
        """
        if len(batch) > 1:
            began = time.perf_counter()
            try:
                spoken = list(
                    self.speaker.say_many(
                        map(self._line, batch),
                        batch_size=len(batch) * self.num_candidates,
                        num_candidates=self.num_candidates,
                    )
                )
            except SpeechLMError:  # one line that cannot be spoken: find out which
                return [self._say(index) for index in batch]
            spent, total = time.perf_counter() - began, sum(len(s.waveform) for s in spoken)
            return [
                replace(s, compute_seconds=spent * len(s.waveform) / max(1, total)) for s in spoken
            ]
        return [self._say(index) for index in batch]

    def score(self, index: int, speech: Speech | SpeechLMError) -> tuple[list[Row], list[str]]:
        """Rows of the model, the ground truth and the codec's copy, and what is to be noted."""
        sentence = self.sentences[index]
        rate = self.rate
        sounds = {"prompt": self._prompt(index)}
        notes: list[str] = []
        if isinstance(speech, SpeechLMError):
            notes.append(f"{sentence.id}: {speech}")
            rows = [self._row(index, MODEL, torch.zeros(0), FAILED)]
        else:
            notes += speech.notes
            sounds[MODEL] = speech.waveform
            rows = [self._row(index, MODEL, speech.waveform, speech.finish_reason)]
            rows[0]["compute_seconds"] = speech.compute_seconds
        if sentence.reference is not None:
            original = read_audio(sentence.reference, rate)
            if sentence.cut_s is not None:
                original = original[round(sentence.cut_s * rate) :]
            codec = self.speaker.codec
            copied = codec.synthesize(codec.tokenize([original]))[0]
            sounds |= {TRUTH: original, COPY: copied}
            rows += [self._row(index, TRUTH, original), self._row(index, COPY, copied)]
        if self.sounds is not None and MODEL in sounds:
            self.sounds.mkdir(exist_ok=True)
            write_audio(self.sounds / f"{index + 1:04d}.wav", sounds[MODEL], rate)
        if index < NUM_EXAMPLES:
            self._keep_example(index + 1, sounds)
        return rows, notes

    @torch.inference_mode()
    def first_audio_seconds(self) -> float | None:
        """Median time from the call to the first piece of sound, with the voice prepared.

        None for a speaker that cannot stream. The first sentence is streamed twice, because its
        first time pays for what no later call pays for.
        """
        stream = getattr(self.speaker, "speak_stream", None)
        if stream is None:
            return None
        times: list[float] = []
        for index, sentence in enumerate([self.sentences[0], *self.sentences[:NUM_STREAMED]]):
            try:
                voice = self.speaker.prepare_voice(
                    **self._prompt_arguments(sentence), prompt_text=sentence.prompt_text
                )
                began = time.perf_counter()
                pieces = stream(sentence.text, voice, seed=self.seed)
                next(iter(pieces))
            except (SpeechLMError, StopIteration) as error:
                self.report.note(f"{sentence.id} gave no first audio: {error}")
            else:
                if index:
                    times.append(time.perf_counter() - began)
        return float(torch.tensor(times).median()) if times else None

    def show_example(self, number: int) -> None:
        """Enter an example into the report, whichever call wrote its files."""
        text = self.sentences[number - 1].text
        for title in ("prompt", TRUTH, COPY, MODEL):
            name = _example_name(number, title)
            if (self.report.folder / name).is_file():
                self.report.sounds[name] = f"{title}, example {number}: {text}"
        sounds = {
            title: (read_audio(self.report.folder / name, self.rate), self.rate)
            for title in ("prompt", TRUTH, COPY, MODEL)
            if (name := _example_name(number, title)) in self.report.sounds
        }
        self.report.add_figure(
            f"example-{number}.png",
            f"Example {number}: {text}",
            lambda path: save_spectrograms(path, sounds),
        )

    def _keep_example(self, number: int, sounds: dict[str, Tensor]) -> None:
        for title in ("prompt", TRUTH, COPY, MODEL):
            path = self.report.folder / _example_name(number, title)
            path.unlink(missing_ok=True)  # of an older report in this folder
            if len(sounds.get(title, ())):
                write_audio(path, sounds[title], self.rate)

    def _row(self, index: int, system: str, waveform: Tensor, reason: str | None = None) -> Row:
        sentence, scorers, rate = self.sentences[index], self.scorers, self.rate
        span = sound_span(waveform, rate)
        heard = None if scorers.recognizer is None else ""
        voice, opinion = None, None
        if span.seconds:
            heard = scorers.hear(waveform, rate)
            voice = scorers.voice(waveform, rate)
            opinion = scorers.opinion(waveform, rate)
        has_words = normalise_transcript(sentence.text) != ""
        score = word_errors([sentence.text], [heard]) if has_words else None
        own, others = self._voice(index), other_prompts(self.sentences, index)
        return {
            "item": index,
            "id": sentence.id,
            "system": system,
            "protocol": sentence.protocol,
            "kind": sentence.kind,
            "text": sentence.text,
            "heard": heard,
            "errors": score and score.substitutions + score.deletions + score.insertions,
            "words": score and score.words,
            "seconds": len(waveform) / rate,
            "spoken_seconds": span.seconds,
            "similarity": mean_similarity([voice], [own]),
            "similarity_to_other": mean_similarity(
                [voice], [self._voice(others[0]) if others else None]
            ),
            "is_nearest": is_nearest(voice, own, [self._voice(other) for other in others]),
            "mos": opinion,
            "finish_reason": reason,
            "faults": find_faults(sentence.text, heard, span, reason),
            "compute_seconds": None,
        }

    def _voice(self, index: int) -> Tensor | None:
        """Embedding of a sentence's prompt, made once a recording."""
        sentence = self.sentences[index]
        key = (sentence.prompt, sentence.cut_s)
        if key not in self._voices:
            self._voices[key] = self.scorers.voice(self._prompt(index), self.rate)
        return self._voices[key]

    def _say(self, index: int) -> Speech | SpeechLMError:
        sentence = self.sentences[index]
        try:
            return self.speaker.say(
                sentence.text,
                **self._prompt_arguments(sentence),
                prompt_text=sentence.prompt_text,
                seed=self.seed + index,
                num_candidates=self.num_candidates,
            )
        except SpeechLMError as error:
            return error

    def _line(self, index: int) -> Line:
        sentence = self.sentences[index]
        prompt: Any = sentence.prompt
        if sentence.cut_s is not None:
            prompt = self.speaker.prepare_voice(
                **self._prompt_arguments(sentence), prompt_text=sentence.prompt_text
            )
        text = None if sentence.cut_s is not None else sentence.prompt_text
        return Line(sentence.text, prompt, text, self.seed + index)

    def _prompt(self, index: int) -> Tensor:
        """The recording of a sentence's voice, up to its cut."""
        sentence = self.sentences[index]
        prompt = read_audio(sentence.prompt, self.rate)
        return prompt if sentence.cut_s is None else prompt[: round(sentence.cut_s * self.rate)]

    def _prompt_arguments(self, sentence: Sentence) -> dict[str, Any]:
        """How a speaker is given the prompt: as a file unless only a part of it is meant."""
        if sentence.cut_s is None:
            return {"prompt": sentence.prompt}
        prompt = read_audio(sentence.prompt, self.rate)[: round(sentence.cut_s * self.rate)]
        return {"prompt": prompt, "sampling_rate": self.rate}


def other_prompts(sentences: Sequence[Sentence], index: int) -> list[int]:
    """The sentences whose prompts are other voices, from the next one on and around the list's end.

    Where speakers are named they decide, otherwise the prompts' paths do. The similarity to the first
    of them is what a voice scores that was not cloned at all.
    """
    own = sentences[index]

    def differs(other: Sentence) -> bool:
        if own.speaker and other.speaker:
            return other.speaker != own.speaker
        return other.prompt != own.prompt

    around = [*range(index + 1, len(sentences)), *range(index)]
    return [other for other in around if differs(sentences[other])]


def _revisions(speaker: Speaker) -> list[str]:
    """What the speech is a function of, beside the list and the seed."""
    models = [getattr(speaker, name, None) for name in ("ar", "nar")]
    weights = [fingerprint(m.state_dict()) for m in models if isinstance(m, nn.Module)]
    codec = speaker.codec.identity
    return [codec.codec_id, codec.revision, _precision(speaker), *weights]


def _precision(speaker: Speaker) -> str:
    return getattr(speaker, "precision", "fp32")  # a stand-in has none


def _example_name(number: int, title: str) -> str:
    return f"example-{number}-{title.replace(' ', '-')}.wav"
