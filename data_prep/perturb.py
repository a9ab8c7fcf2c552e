"""A manifest in, the same utterances in other voices, rooms and microphones out.

All utterances of a speaker are changed alike in one copy, which is a speaker of its own: a prompt and what it
asks for stay one voice in one room. Copies of training speakers only are made, since a held-out speaker's
copy in training would give its words away, and one in the held-out part would measure the change.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..errors import ConfigError, CorpusError
from ..tokenizer.audio import encode_audio, inspect_audio, read_audio
from ..tokenizer.files import write_atomically
from .acoustics import Surroundings
from .manifest import Utterance, read_manifest, write_manifest
from .output import counted, make_folder

AUDIO_FOLDER = "audio"
_STORED = re.compile(r"[0-9a-f]{24}\.flac")
_MOST_SPEED = 1.5  # beyond it speech is no longer anybody's
_MOST_COPIES = 100


@dataclass(frozen=True)
class PerturbSummary:
    """What was made.

    Attributes:
        folder: Where it lies.
        utterances: Recordings in the new manifest.
        speakers: Speakers in it.
        hours: Of sound.
        held_out: Utterances that were left alone, since they are not for training.
    """

    folder: Path
    utterances: int
    speakers: int
    hours: float
    held_out: int

    def report(self) -> str:
        """One sentence for a person, two if something was left alone."""
        said = (
            f"{self.folder}: {counted(self.utterances, 'utterance')} of "
            f"{counted(self.speakers, 'speaker')}, {self.hours:.2f} hours."
        )
        if self.held_out:
            said += f" {counted(self.held_out, 'held-out utterance')} left alone."
        return said


def perturb_manifest(
    manifest: Path,
    out: Path,
    *,
    copies: int = 1,
    max_speed: float = 1.15,
    places: bool = True,
    seed: int = 0,
    workers: int = 1,
    progress: bool = True,
) -> PerturbSummary:
    """Write changed copies of every training utterance, with texts, phonemes and durations that fit.

    Writes `manifest.jsonl` and `audio/*.flac`. Run again, it goes on where it stopped; on a manifest that
    has grown it makes what is new, and what other settings left behind is removed.

    Args:
        manifest: As `prepare` wrote it.
        out: Folder for the copies; the recordings themselves stay where they are.
        copies: Of each speaker; copy `n` of speaker `s` is the speaker `s~n`.
        max_speed: Speeds lie between this and its inverse; 1 changes none.
        places: Change room, microphone and noise too.
        seed: Another one gives other copies.
        workers: Threads that share the work.
        progress: Show a bar.

    Raises:
        ConfigError: If a number makes no sense, or nothing would be changed.
        CorpusError: If the manifest is damaged or has no utterance for training.
        UnsupportedAudio: If a recording cannot be read.
    """
    if not 1 <= copies <= _MOST_COPIES:
        raise ConfigError(f"{copies} copies cannot be made; give 1 to {_MOST_COPIES}.")
    if not 1 <= max_speed <= _MOST_SPEED:
        raise ConfigError(f"The speed {max_speed:g} is not within 1 to {_MOST_SPEED}.")
    if max_speed == 1 and not places:
        raise ConfigError(
            "Copies at the same speed and in the same place are no other recordings; "
            "give a max_speed above 1, or let places change."
        )
    utterances = read_manifest(manifest)
    training = [utterance for utterance in utterances if utterance.split == "train"]
    if not training:
        raise CorpusError(f"{manifest} has no utterance for training; copies are made of those.")
    make_folder(out / AUDIO_FOLDER)
    jobs = [(utterance, copy) for copy in range(1, copies + 1) for utterance in training]

    def make(job: tuple[Utterance, int]) -> Utterance:
        return _copy(*job, out / AUDIO_FOLDER, seed, max_speed, places)

    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(total=len(jobs), desc="perturb", unit="utterance", disable=not progress)
        made = []
        with bar:
            for changed in pool.map(make, jobs):
                made.append(changed)
                bar.update()
    write_manifest(out / "manifest.jsonl", made)
    current = {utterance.audio.name for utterance in made}
    for path in (out / AUDIO_FOLDER).iterdir():
        if _STORED.fullmatch(path.name) and path.name not in current:
            path.unlink()  # of another manifest or other settings
    return PerturbSummary(
        folder=out,
        utterances=len(made),
        speakers=len({utterance.speaker for utterance in made}),
        hours=sum(utterance.seconds for utterance in made) / 3600,
        held_out=len(utterances) - len(training),
    )


def surroundings_of(
    speaker: str, copy: int, seed: int, max_speed: float, places: bool = True
) -> Surroundings:
    """What a copy of a speaker sounds like: the same in every run and on every machine."""
    drawn = Surroundings.draw(_chance("surroundings", speaker, copy, seed), max_speed)
    return drawn if places else Surroundings(speed=drawn.speed)


def _copy(
    utterance: Utterance, copy: int, folder: Path, seed: int, max_speed: float, places: bool
) -> Utterance:
    # whoever has no name is nobody's neighbour
    around = surroundings_of(utterance.speaker or utterance.id, copy, seed, max_speed, places)
    chance = _chance("place", utterance.id, copy, seed)
    # the name tells a copy from that of another recording or other settings
    asked: tuple[object, ...] = (
        utterance.id,
        utterance.audio,
        utterance.seconds,
        utterance.speaker,
        copy,
        seed,
        max_speed,
    )
    if not places:
        asked += ("in its own place",)
    path = folder / f"{_digest(*asked).hex()[:24]}.flac"
    if not path.is_file():
        sampling_rate = inspect_audio(utterance.audio).sampling_rate
        waveform = read_audio(utterance.audio, sampling_rate).numpy()
        placed = torch.from_numpy(around.place(waveform, sampling_rate, chance))
        write_atomically(path, encode_audio(placed, sampling_rate, path.suffix))
    durations = utterance.durations_s
    return replace(
        utterance,
        id=f"{utterance.id}~{copy}",
        audio=path.absolute(),
        seconds=inspect_audio(path).seconds,
        speaker=f"{utterance.speaker}~{copy}" if utterance.speaker else "",
        durations_s=None if durations is None else tuple(d / around.speed for d in durations),
        cleaning=None,  # it was measured on the recording, not on its copy
    )


def _chance(*parts: object) -> np.random.Generator:
    """Numbers that depend on all parts and on nothing else."""
    return np.random.default_rng(int.from_bytes(_digest(*parts)[:16], "big"))


def _digest(*parts: object) -> bytes:
    name = "\0".join(str(part) for part in parts)
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
