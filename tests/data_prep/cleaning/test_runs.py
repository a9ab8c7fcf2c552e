"""Runs that stop, go on, or share their work end in the bytes of a run that did not."""

import json
import multiprocessing
import os
import random
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from speechlm.data_prep.cleaning import CleaningOptions
from speechlm.data_prep.prepare import JOURNAL_NAME, prepare_corpus
from speechlm.data_prep.readers import Recording, Rejection, read_corpus

OPTIONS = CleaningOptions(resample_hz=16_000)


@pytest.fixture
def corpus(tmp_path):
    """Forty recordings of eight speakers, some of them bad, doubled or of one id."""
    for index in range(40):
        folder = tmp_path / "c" / f"s{index % 8}"
        folder.mkdir(parents=True, exist_ok=True)
        time_s = np.arange(8_000) / 8_000
        pitch = 100 if index in (5, 30) else 100 + 3 * index
        wave = 0.2 * np.sin(2 * np.pi * pitch * time_s) * np.linspace(0.1, 1, 8_000)
        soundfile.write(folder / f"u{index}.wav", wave, 8_000)
        (folder / f"u{index}.txt").write_text("hello")
        if index % 9 == 0:
            (folder / f"u{index}.wav").write_bytes(b"no audio")
    return tmp_path / "c"


def run(corpus, out, **options):
    return prepare_corpus(corpus, out, options=OPTIONS, progress=False, **options)


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path, corpus, content):
    run(corpus, tmp_path / "whole")
    whole = content(tmp_path / "whole")
    chance = random.Random(0)
    size = len(whole[JOURNAL_NAME])
    fork = multiprocessing.get_context("fork")
    out = tmp_path / "killed"
    for target in sorted(chance.uniform(0, 0.95) * size for _ in range(4)):
        child = fork.Process(target=run, args=(corpus, out))
        child.start()
        journal = out / JOURNAL_NAME
        while child.is_alive() and not (journal.exists() and journal.stat().st_size > target):
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.01))
        child.kill()
        child.join()
        assert child.exitcode == -9
        assert not (out / "manifest.jsonl").exists()
        with journal.open("ab") as file:
            file.write(b'0123abcd {"key": "half a li')
    run(corpus, out)
    assert content(out) == whole


def test_what_was_judged_is_not_decoded_again(tmp_path, corpus, monkeypatch, content):
    run(corpus, tmp_path / "out")
    before = content(tmp_path / "out")
    judged = []
    from speechlm.data_prep.cleaning import workers

    real = workers.clean_recording
    monkeypatch.setattr(
        workers,
        "clean_recording",
        lambda entry, *args, **kwargs: judged.append(entry.id) or real(entry, *args, **kwargs),
    )
    run(corpus, tmp_path / "out")
    assert (judged, content(tmp_path / "out")) == ([], before)
    touched = corpus / "s3" / "u3.wav"
    os.utime(touched, ns=(1, 1))
    next((tmp_path / "out" / "audio").rglob("s4_u4-*.flac")).unlink()
    (corpus / "s2" / "u2.txt").write_text("another text")
    run(corpus, tmp_path / "out")
    assert sorted(judged) == ["s2/u2", "s3/u3", "s4/u4"]


def test_a_damaged_journal_costs_time_and_nothing_else(tmp_path, corpus, content):
    run(corpus, tmp_path / "out")
    before = content(tmp_path / "out")
    journal = tmp_path / "out" / JOURNAL_NAME
    data = bytearray(journal.read_bytes())
    for place in random.Random(1).sample(range(len(data)), 60):
        data[place] = 0x20
    journal.write_bytes(data)
    run(corpus, tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_any_number_of_processes_writes_the_same_bytes(tmp_path, corpus, content):
    run(corpus, tmp_path / "one")
    run(corpus, tmp_path / "three", workers=3)
    assert content(tmp_path / "one") == content(tmp_path / "three")


class Bomb(Recording):
    """An entry that ends the process which unpacks it."""

    def __reduce__(self):
        return os._exit, (11,)


def test_a_file_that_ends_its_reader_is_refused_and_the_others_are_not(tmp_path, corpus):
    entries = [entry for entry in read_corpus(corpus) if isinstance(entry, Recording)][:8]
    bomb = Bomb(**vars(replace(entries[3], id="bomb")))
    run(iter([*entries[:3], bomb, *entries[3:]]), tmp_path / "out", workers=2)
    rows = map(json.loads, (tmp_path / "out" / "rejected.jsonl").read_text().splitlines())
    kinds = {row["id"]: row["kind"] for row in rows}
    assert kinds.pop("bomb") == "crash"
    assert "crash" not in kinds.values()


def test_of_two_with_one_id_the_good_one_is_taken(tmp_path, corpus):
    good, bad = corpus / "s1" / "u1.wav", corpus / "s0" / "u0.wav"
    for workers in (1, 2):
        entries = [
            Recording("same", bad, "hello", "s"),
            Recording("same", good, "hello", "s"),
            Recording("same", corpus / "s2" / "u2.wav", "hello", "s"),
        ]
        out = tmp_path / f"out{workers}"
        summary = run(iter(entries), out, workers=workers)
        assert sum(summary.utterances.values()) == 1
        assert summary.rejected == {"duplicate id": 1, "unreadable": 1}


def test_the_first_of_two_recordings_with_the_same_samples_stays(tmp_path, corpus):
    run(corpus, tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").open()]
    (found,) = [row for row in rows if row["kind"] == "duplicate audio"]
    assert (found["id"], "'s5/u5'" in found["reason"]) == ("s6/u30", True)


def test_readers_rejections_keep_their_place(tmp_path, corpus):
    entries = [entry for entry in read_corpus(corpus) if isinstance(entry, Recording)][:4]
    entries.insert(2, Rejection("odd", "x", "It is odd.", "entry"))
    run(iter(entries), tmp_path / "out")
    rows = [json.loads(line)["id"] for line in (tmp_path / "out" / "rejected.jsonl").open()]
    assert rows == ["s0/u0", "odd"]
