"""What lies in a corpus's folders, in an order that depends on names only."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..manifest import resolve_audio, storable
from .entry import AUDIO_SUFFIXES, FORMAT, LINK, LIST, MISSING, UNLISTED, Recording, Rejection

# Told rather than passed over in silence, because nobody keeps such files for anything but audio
UNREAD_SUFFIXES = frozenset(
    {".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".m4a", ".mp4", ".sph", ".webm", ".wma", ".wv"}
)


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder by name, without hidden ones and without links."""
    try:
        with os.scandir(folder) as found:
            names = [e.name for e in found if e.name[0] != "." and e.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def holds_below(folder: Path, ending: str, depth: int = 3, breadth: int = 5) -> bool:
    """Whether a file of such an ending lies in the folder or in the first few folders below it."""
    try:
        with os.scandir(folder) as found:
            if any(e.name.endswith(ending) and e.name[0] != "." for e in found):
                return True
    except OSError:
        return False
    below = subfolders(folder)[:breadth] if depth else []
    return any(holds_below(sub, ending, depth - 1, breadth) for sub in below)


def walk(root: Path) -> Iterator[tuple[Path, list[str]] | Rejection]:
    """Yield every folder from the root downwards with its files by name.

    Hidden files and folders are left out: they are the litter of other systems (`._take1.wav`),
    never recordings. A link to a folder is not followed, so that no loop traps us and no corpus
    leads elsewhere; it is a rejection, and so is a folder that cannot be read.
    """
    closed: list[OSError] = []
    for name, below, files in os.walk(root, onerror=closed.append):
        folder = Path(name)
        links = [sub for sub in below if (folder / sub).is_symlink() and sub[0] != "."]
        below[:] = sorted(sub for sub in below if sub[0] != "." and sub not in links)
        yield folder, sorted(file for file in files if file[0] != ".")
        for link in sorted(links):
            yield _refused(
                root, folder / link, "is a link to a folder, which is not followed; give its "
                "target as a corpus of its own", LINK,
            )  # fmt: skip
        yield from _told(root, closed)
    yield from _told(root, closed)


def recordings_below(root: Path) -> Iterator[Path | Rejection]:
    """Yield the recordings in a folder and below; audio in a format that is not read is told."""
    for found in walk(root):
        if isinstance(found, Rejection):
            yield found
        else:
            folder, files = found
            yield from recordings_among(root, folder, files)


def recordings_among(root: Path, folder: Path, files: Iterable[str]) -> Iterator[Path | Rejection]:
    """Yield the recordings among the files of one folder, as `recordings_below` does."""
    for name in files:
        suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path each would cost more
        if suffix in AUDIO_SUFFIXES:
            yield folder / name
        elif suffix in UNREAD_SUFFIXES:
            yield _refused(
                root, folder / name, "is audio in a format that is not read; convert it to FLAC",
                FORMAT,
            )  # fmt: skip


def id_below(root: Path, audio: Path) -> str:
    """A recording's id: its path below the root, without the suffix."""
    return storable(audio.relative_to(root).with_suffix("").as_posix())


def find_audio(folder: Path, name: str) -> Path:
    """The recording of that name in a folder; a name without a suffix may have any known one.

    Raises:
        CorpusError: If the name leads out of the folder.
    """
    named = resolve_audio(name, folder)
    if named.suffix.lower() in AUDIO_SUFFIXES:
        return named
    choices = [Path(f"{named}{suffix}") for suffix in (".wav", ".flac", ".mp3", ".ogg", ".opus")]
    # os.path's, because Path's raises on a name that is too long
    return next((choice for choice in choices if os.path.isfile(choice)), choices[0])  # noqa: PTH113


def unlisted(root: Path, audio: Path) -> Rejection:
    """The rejection of a recording that no list names."""
    return _refused(root, audio, "is named by no list of the corpus; add it or leave it", UNLISTED)


def missing(name: str, audio: Path) -> Rejection:
    """The rejection of an entry whose recording is not there."""
    return Rejection(
        name,
        str(audio),
        f"The recording {audio} does not exist; restore it or take the entry off its list.",
        MISSING,
    )


class ListedFiles:
    """The files that lists name: 8 bytes each, whatever the paths that lead to them."""

    def __init__(self) -> None:
        self._keys = array("q")

    def add(self, audio: Path) -> bool:
        """Note a file; False if there is none."""
        key = _file_key(audio)
        if key is not None:
            self._keys.append(key)
        return key is not None

    def check(self, recording: Recording) -> Recording | Rejection:
        """Note the recording's file; give a rejection in its place if there is none."""
        found = self.add(recording.audio)
        return recording if found else missing(recording.id, recording.audio)

    def others_below(self, root: Path, folders: Iterable[Path]) -> Iterator[Rejection]:
        """Yield a rejection for every recording in or below the folders that was not noted."""
        noted = np.sort(np.frombuffer(self._keys, dtype=np.int64)) if self._keys else _NONE
        for folder in folders:
            for audio in recordings_below(folder):
                if isinstance(audio, Path) and not _holds(noted, _file_key(audio)):
                    yield unlisted(root, audio)


_NONE = np.zeros(0, dtype=np.int64)


def _holds(ordered: NDArray[np.int64], key: int | None) -> bool:
    place = len(ordered) if key is None else int(np.searchsorted(ordered, key))
    return place < len(ordered) and int(ordered[place]) == key


def _file_key(audio: Path) -> int | None:
    try:
        status = audio.stat()
    except (OSError, ValueError):  # a path too long, or with a NUL
        return None
    return hash((status.st_dev, status.st_ino))


def _refused(root: Path, path: Path, problem: str, kind: str) -> Rejection:
    name = storable(path.name) if path == root else id_below(root, path)
    return Rejection(name, str(path), f"{path} {problem}.", kind)


def _told(root: Path, closed: list[OSError]) -> Iterator[Rejection]:
    for error in closed:
        yield _refused(
            root, Path(error.filename), f"cannot be read ({error.strerror}); check its permissions",
            LIST,
        )  # fmt: skip
    closed.clear()
