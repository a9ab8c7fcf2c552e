"""The whole road in minutes: what `make tiny` walks, on self-made signals with the tiny recipes.

It shows a contributor that every step still leads to the next one, from a corpus to speech after the
prompt of an unheard voice, in both shapes of language model. It says nothing about real speech.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..data_prep.manifest import read_manifest
from ..data_prep.packs import pitch_tracker
from ..data_prep.prepare import prepare_corpus
from ..data_prep.tokenize import tokenize_manifest
from ..errors import ConfigError, MissingExtra, SpeechLMError
from ..slm.speak import Speaker
from ..tokenizer.audio import write_audio
from ..tokenizer.codec import load_codec
from ..train.export import export_run
from ..train.run import run_training
from .codec import evaluate_codec
from .protocols import make_list
from .report import Report, Row
from .scorers import Scorers
from .synthetic import SAMPLING_RATE, SpelledPhonemes, draw_text, make_synthetic_corpus
from .tts import evaluate_tts

NUM_SENTENCES = 4  # of each report
TEXT_SEED = 1  # the corpus' texts come from 0, so that the text to say is new
LOG_NAME = "tiny-road.log"  # also how an earlier walk is known
# Which trainings make a speaker, and where its folder wants them. The autoregressive model writes
# all books, or, VALL-E's split, one book, and a non-autoregressive model writes the others.
SHAPES = {
    "multibook": {"ar": "multibook-ar"},
    "pair": {"ar": "pair-ar", "nar": "pair-nar"},
}
_RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "multibook-ar": ("tiny-ar.yaml", {}),
    "pair-ar": ("tiny-ar.yaml", {"model.ar_books": 1}),
    "pair-nar": ("tiny-nar.yaml", {}),
}

Tell = Callable[[str], None]


def walk_tiny_road(out: Path, tell: Tell = lambda line: None) -> dict[str, Any]:
    """Walk the road from self-made recordings to a cloned voice and its reports.

    Args:
        out: Folder for everything; what an earlier walk left there is replaced.
        tell: Called with one line of a table after each stage, and with the sum at the end.

    Returns:
        What `report/report.json` holds: the facts have the first and last value of each loss, and
        per shape of language model how its speech ended; the table has the stages and seconds.

    Raises:
        ConfigError: If `out` holds something else.
        SpeechLMError: If a loss did not fall, or speech was cut at its length limit.
    """
    road = _TinyRoad(out, tell)
    road.prepare()
    road.train_codec()
    road.tokenize()
    for name, (recipe, changes) in _RECIPES.items():
        road.train("slm", name, recipe, {"shards": [str(road.shards)], **changes}, "loss")
    road.export()
    road.speak()
    road.evaluate()
    return road.conclude()


@dataclass
class _TinyRoad:
    """The stages, in the order of the road; each tells one line and leaves one row."""

    out: Path
    tell: Tell
    stages: list[Row] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    speakers: dict[str, Speaker] = field(default_factory=dict)

    def __post_init__(self) -> None:
        log = self.out / LOG_NAME
        if self.out.exists():
            if not self.out.is_dir() or (any(self.out.iterdir()) and not log.is_file()):
                raise ConfigError(
                    f"{self.out} holds something that the tiny road did not make; "
                    "name a folder that is empty or not there."
                )
            shutil.rmtree(self.out)  # a run that is there would go on, and show nothing new
        self.out.mkdir(parents=True)
        log.touch()

    @property
    def manifest(self) -> Path:
        return self.out / "prepared" / "manifest.jsonl"

    @property
    def shards(self) -> Path:
        return self.out / "shards"

    @contextmanager
    def stage(self, name: str) -> Iterator[Row]:
        """Time a stage, whose figures the caller fills in; what it prints itself goes to the log."""
        figures: Row = {}
        began = time.perf_counter()
        with (self.out / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(f"\n== {name}\n")
            with redirect_stdout(log), redirect_stderr(log):
                yield figures
        seconds = time.perf_counter() - began
        found = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in figures.items())
        self.stages.append({"stage": name, "seconds": round(seconds, 1), "figures": found})
        self.tell(f"{name:<20}{seconds:7.1f} s   {found}")

    def prepare(self) -> None:
        """Recordings, then their clean manifest."""
        with self.stage("corpus") as figures:
            listing = make_synthetic_corpus(self.out / "corpus")
            figures["utterances"] = len(listing.read_text("utf-8").splitlines())
        with self.stage("prepare") as figures:
            summary = prepare_corpus(listing, self.manifest.parent, progress=False)
            figures |= {f"{split}_seconds": s for split, s in summary.seconds.items() if s}

    def train_codec(self) -> None:
        """The codec, on the pitch of its source where a tracker is installed."""
        changes: dict[str, Any] = {
            "data": [{"manifest": str(self.manifest)}],
            "cache": str(self.out / "packs"),
        }
        try:
            pitch_tracker(SAMPLING_RATE)
        except MissingExtra as error:
            changes["model.has_harmonic_source"] = False
            self.notes.append(f"The codec was trained without its harmonic source: {error}")
            self.tell(self.notes[-1])
        self.train("codec", "codec", "tiny-codec.yaml", changes, "mel")

    def train(
        self, kind: str, name: str, recipe: str, changes: dict[str, Any], measure: str
    ) -> None:
        """One training into `runs/<name>`, whose measure has to fall."""
        config = Path(str(files(__package__.rpartition(".")[0]))) / "configs" / recipe
        run = self.out / "runs" / name
        with self.stage(f"train {name}") as figures:
            # JSON is YAML, which the values of overrides are
            overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
            run_training(kind, config, overrides, run)
            first, last = _first_and_last(run / "metrics.jsonl", measure)
            figures[measure] = f"{first:.3f} -> {last:.3f}"
            if not last < first:
                raise SpeechLMError(
                    f"Training {name} did not lower {measure} ({figures[measure]}); "
                    f"see {run / 'metrics.jsonl'}."
                )
        self.facts[f"{name}_{measure}"] = [first, last]

    def tokenize(self) -> None:
        """Shards of tokens, by the codec as its users will load it."""
        with self.stage("tokenize") as figures:
            for shape in SHAPES:
                export_run(self.out / "runs" / "codec", self.out / shape / "codec")
            codec = load_codec(self.out / "multibook" / "codec")
            made = tokenize_manifest(self.manifest, self.shards, codec=codec, progress=False)
            figures |= {"frames": made.num_frames, "codec": codec.identity.revision}

    def export(self) -> None:
        """One folder a speaker: codec and language models."""
        with self.stage("export") as figures:
            for shape, models in SHAPES.items():
                for part, name in models.items():
                    export_run(self.out / "runs" / name, self.out / shape / part)
                self.speakers[shape] = Speaker.from_pretrained(self.out / shape)
                self.speakers[shape].front_end = SpelledPhonemes()
            figures["folders"] = " and ".join(SHAPES)

    def speak(self) -> None:
        """A new text in the voice that was held out, by each speaker."""
        prompt = next(u.audio for u in read_manifest(self.manifest) if u.split == "valid")
        text = draw_text(random.Random(TEXT_SEED))
        for shape, speaker in self.speakers.items():
            with self.stage(f"say, {shape}") as figures:
                speech = speaker.say(text, prompt)
                write_audio(self.out / f"{shape}.wav", speech.waveform, speech.sampling_rate)
                figures |= {"finish_reason": speech.finish_reason, "text": repr(text)}
                figures["seconds"] = round(speech.seconds, 2)
                if speech.finish_reason != "end":
                    raise SpeechLMError(
                        f"The speaker {self.out / shape} did not reach the end of {text!r}; "
                        f"its trainings in {self.out / 'runs'} went wrong."
                    )
            self.facts[f"{shape}_finish_reason"] = speech.finish_reason

    def evaluate(self) -> None:
        """Both reports, without the scorers of real speech, which mean nothing here."""
        with self.stage("eval codec") as figures:
            codec = load_codec(self.out / "multibook" / "codec")
            found = evaluate_codec(
                self.manifest.parent,
                self.out / "report-codec",
                codec=codec,
                limit=NUM_SENTENCES,
                scorers=Scorers(),
            )
            distance = found["tables"]["quality"][-1]["mel_distance"]
            figures["mel_distance"] = round(distance, 3)
        self.facts["codec_mel_distance"] = distance
        sentences = self.out / "sentences.jsonl"
        make_list(self.manifest, sentences, count=NUM_SENTENCES)
        for shape, speaker in self.speakers.items():
            with self.stage(f"eval tts, {shape}") as figures:
                folder = self.out / f"report-{shape}"
                found = evaluate_tts(sentences, folder, speaker=speaker, scorers=Scorers())
                reasons = found["facts"]["finish_reasons"]
                if set(reasons) != {"end"}:
                    raise SpeechLMError(f"Not every sentence was spoken to its end; see {folder}.")
                ratio = found["tables"]["systems"][0]["duration_ratio"]
                figures |= {**reasons, "duration_ratio": round(ratio, 3)}
            self.facts[f"{shape}_duration_ratio"] = ratio

    def conclude(self) -> dict[str, Any]:
        """The report of the road itself."""
        seconds = sum(stage["seconds"] for stage in self.stages)
        self.facts = {"seconds": round(seconds, 1), **self.facts}
        report = Report(
            self.out / "report",
            "The tiny road",
            facts=self.facts,
            tables={"stages": self.stages},
            notes=self.notes,
        )
        found = report.save()
        self.tell(f"{'the whole road':<20}{seconds:7.1f} s   {report.folder}")
        return found


def _first_and_last(metrics: Path, name: str) -> tuple[float, float]:
    """A training measure as logged first, the mean of the first steps, and last."""
    records = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    values = [record[name] for record in records if record["split"] == "train"]
    return values[0], values[-1]
