"""A journal keeps whole lines of its own evaluation, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechlm.eval.journal import ItemJournal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with ItemJournal(tmp_path / "j", ["list", 1]) as journal:
        journal.add(0, [{"wer": 0.5}], ["a note"])
        journal.add(3, [{"wer": None}], [])
    return tmp_path / "j"


def test_what_was_written_is_known(path: Path) -> None:
    with ItemJournal(path, ["list", 1]) as journal:
        assert set(journal.known) == {0, 3}
        assert journal.known[0]["rows"] == [{"wer": 0.5}]
        assert journal.known[0]["notes"] == ["a note"]
        journal.add(4, [], [])
    with ItemJournal(path, ["list", 1]) as journal:
        assert set(journal.known) == {0, 3, 4}
        journal.discard()
    assert not path.exists()


def test_other_settings_begin_anew(path: Path) -> None:
    with ItemJournal(path, ["list", 2]) as journal:
        assert not journal.known
    with ItemJournal(path, ["list", 1]) as journal:
        assert not journal.known


def test_a_kill_at_any_byte_loses_only_what_it_cut(path: Path) -> None:
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == 10]
    near = [end + shift for end in (0, *ends) for shift in (-1, 0, 1, 20)]
    for size in sorted({min(max(0, size), len(content)) for size in near}):
        path.write_bytes(content[:size])
        with ItemJournal(path, ["list", 1]) as journal:
            assert len(journal.known) == max(0, sum(end <= size for end in ends) - 1)
            journal.add(9, [], [])
        with ItemJournal(path, ["list", 1]) as journal:
            assert 9 in journal.known
