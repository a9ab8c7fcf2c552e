"""Paths that a user gives, checked before anything heavy is imported or loaded.

Nothing here imports torch: a command asks these first, and a mistake is told within a second. What
reads or writes asks them again, so that there is one sentence for each mistake.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ..errors import CorruptWeights, SpeechLMError, UnsupportedAudio

# Suffix to libsndfile's name of the format.
AUDIO_FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".opus": "OGG", ".mp3": "MP3"}

_Path = str | os.PathLike[str]


def require_file(path: _Path, error: type[SpeechLMError], wanted: str) -> Path:
    """The path of a file that is there.

    Args:
        path: What was given.
        error: Raised if there is no such file.
        wanted: What to give instead, as the sentence goes on after "give".
    """
    name = Path(path)
    if not name.is_file():
        raise error(f"{name} does not exist or is not a file; give {wanted}.")
    return name


def require_recording(path: _Path) -> Path:
    """The path of a recording that is there and not empty.

    Raises:
        UnsupportedAudio: Else.
    """
    name = require_file(path, UnsupportedAudio, "the path of a recording")
    if name.stat().st_size == 0:
        raise UnsupportedAudio(f"{name} is an empty file; give a recording.")
    return name


def require_target(path: _Path) -> Path:
    """The path of a file that can be written: its folder is there, and it is no folder itself.

    Raises:
        OSError: Naming the one that is in the way.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT,
            f"There is no such folder to write {target.name} into; make it first",
            str(target.parent),
        )
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "This is a folder; name a file to write", str(target))
    return target


def require_audio_suffix(suffix: str) -> str:
    """The suffix in small letters, if audio can be written under it.

    Raises:
        UnsupportedAudio: Else.
    """
    if suffix.lower() not in AUDIO_FORMATS:
        raise UnsupportedAudio(
            f"Cannot write {suffix or 'a file without suffix'}; use one of {', '.join(AUDIO_FORMATS)}."
        )
    return suffix.lower()


def require_audio_target(path: _Path) -> Path:
    """The path of a sound that can be written; its suffix chooses the format.

    Raises:
        UnsupportedAudio: If the suffix is unknown or the folder does not exist.
    """
    target = Path(path)
    if not target.is_dir():
        require_audio_suffix(target.suffix)
    try:
        return require_target(target)
    except OSError as error:
        raise UnsupportedAudio(f"{error.filename}: {error.strerror}.") from error


def require_model_folder(folder: _Path | None) -> Path | None:
    """The folder of a model, if one is named; what is in it is checked when it is loaded.

    Raises:
        CorruptWeights: If there is no such folder.
    """
    if folder is None:
        return None
    if not Path(folder).is_dir():
        raise CorruptWeights(
            f"There is no model folder {folder}; give one written by `speechlm export`."
        )
    return Path(folder)
