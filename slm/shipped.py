"""Models and voices by name: what ships, what a prompt means, what a voice's file is called.

Nothing here imports torch, so that a wrong name is told before a model is loaded.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from ..errors import ConfigError, UnsupportedAudio
from ..tokenizer.paths import require_target

VOICE_SUFFIX = ".safetensors"


def shipped_models() -> Path:
    """The folder of the models and voices that ship with speechlm."""
    return Path(str(files(__package__))) / "weights"


def shipped_voices() -> dict[str, Path]:
    """Short recordings of synthetic voices that ship with speechlm: name to file, in order."""
    return {path.stem: path for path in sorted((shipped_models() / "voices").glob("*.opus"))}


def find_voice(prompt: str | os.PathLike[str] | None) -> Path:
    """The file that a prompt means: a file, a shipped voice's name, or by default the first voice.

    Raises:
        UnsupportedAudio: If it is neither.
    """
    voices = shipped_voices()
    name = next(iter(voices), "") if prompt is None else os.fspath(prompt)
    found = Path(name) if Path(name).is_file() else voices.get(name.lower())
    if found is None and Path(name).is_dir():
        raise UnsupportedAudio(f"{name} is a folder; name one recording in it as the prompt.")
    if found is None:
        raise UnsupportedAudio(
            f"There is no file {name} to be the prompt, and no shipped voice of that name; give a "
            f"recording, or one of {', '.join(voices) or 'none'}."
        )
    return found


def require_voice_target(path: str | os.PathLike[str]) -> Path:
    """The path of a voice that can be written.

    Raises:
        ConfigError: If the name does not end as voices do, by which `say --prompt` knows them.
        OSError: If its folder does not exist.
    """
    if Path(path).suffix != VOICE_SUFFIX:
        raise ConfigError(
            f"{path} would not be known as a voice; let its name end in {VOICE_SUFFIX}."
        )
    return require_target(path)
