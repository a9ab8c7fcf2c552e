"""Files that are whole or not there, and errors that name what the user named."""

import errno
import os
from pathlib import Path

import pytest

from speechlm.tokenizer import files
from speechlm.tokenizer.files import write_atomically


def test_a_missing_folder_is_named_and_not_a_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "nowhere" / "a.codes", b"x")
    assert caught.value.filename == str(tmp_path / "nowhere")
    assert "a.codes" in caught.value.strerror and "make it first" in caught.value.strerror


def test_a_full_disk_names_the_file_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.codes"
    write_atomically(target, b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(target, b"new")
    assert caught.value.filename == str(target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_of_that_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.codes").mkdir()
    with pytest.raises(OSError, match=r"a\.codes") as caught:
        write_atomically(tmp_path / "a.codes", b"x")
    assert caught.value.filename == str(tmp_path / "a.codes") and caught.value.filename2 is None


def test_a_name_may_be_as_long_as_the_disk_allows(tmp_path: Path) -> None:
    target = tmp_path / ("a" * 255)
    write_atomically(target, b"x")
    assert target.read_bytes() == b"x"
