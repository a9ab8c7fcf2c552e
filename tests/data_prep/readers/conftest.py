"""Small corpora: files whose content no reader opens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from speechlm.data_prep.readers import Recording, Rejection, read_corpus

Found = tuple[list[Recording], list[Rejection]]


def touch_files(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"audio")


def read_apart(
    corpus: Path | str | Iterable[Path | str], *args: object, **options: object
) -> Found:
    """Recordings and rejections of a corpus, each in their order."""
    entries = list(read_corpus(corpus, *args, **options))
    recordings = [entry for entry in entries if isinstance(entry, Recording)]
    return recordings, [entry for entry in entries if isinstance(entry, Rejection)]


@pytest.fixture
def touch() -> Callable[..., None]:
    return touch_files


@pytest.fixture
def read() -> Callable[..., Found]:
    return read_apart
