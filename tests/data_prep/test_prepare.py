import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechlm.data_prep.manifest import read_manifest
from speechlm.data_prep.prepare import assign_splits, fit_durations, prepare_corpus
from speechlm.data_prep.readers import Recording
from speechlm.errors import ConfigError, CorpusError


def ledger(out):
    return {
        row["id"]: row for row in map(json.loads, (out / "rejected.jsonl").read_text().splitlines())
    }


def test_bad_files_are_in_the_ledger_and_good_ones_in_the_manifest(tmp_path, tone):
    corpus, out = tmp_path / "c", tmp_path / "out"
    for name in ("good", 'it\'s "quoted" name'):
        tone(corpus / f"{name}.wav", 1.0)
    tone(corpus / "short.wav", 0.1)
    tone(corpus / "long.wav", 5.0)
    tone(corpus / "silent.wav", 1.0, amplitude=1e-5)
    soundfile.write(corpus / "nan.wav", np.full(8000, np.nan, np.float32), 8000, subtype="FLOAT")
    soundfile.write(corpus / "none.wav", np.zeros(0, np.float32), 8000)
    tone(corpus / "cut.flac", 3.0)
    (corpus / "cut.flac").write_bytes((corpus / "cut.flac").read_bytes()[:9000])
    (corpus / "empty.wav").touch()
    (corpus / "text.wav").write_text("this is no audio")
    (corpus / "loop.wav").symlink_to(corpus / "loop.wav")
    for audio in corpus.iterdir():
        audio.with_suffix(".txt").write_text("hello")
    tone(corpus / "untold.wav", 1.0)
    tone(corpus / "good.flac", 1.0)  # the id `good` a second time

    summary = prepare_corpus(corpus, out, max_seconds=4.0, progress=False)

    accepted = {u.id: u.seconds for u in read_manifest(out / "manifest.jsonl")}
    assert accepted == {"good": 1.0, 'it\'s "quoted" name': 1.0}
    rejected = ledger(out)
    bad = {
        "short",
        "long",
        "silent",
        "nan",
        "none",
        "cut",
        "empty",
        "text",
        "loop",
        "untold",
        "good",
    }
    assert set(rejected) == bad
    assert {rejected["untold"]["kind"], rejected["good"]["kind"]} == {"transcript", "duplicate id"}
    assert all(row["reason"].endswith(".") for row in rejected.values())
    assert sum(summary.rejected.values()) == len(bad)
    assert "rejected 11" in summary.table()
    assert json.loads((out / "summary.json").read_text())["utterances"] == summary.utterances


def test_a_corpus_without_any_transcript_is_an_error_unless_text_may_be_missing(tmp_path, tone):
    tone(tmp_path / "c" / "a.wav", 1.0)
    with pytest.raises(CorpusError, match=r"has a transcript; put a \.txt"):
        prepare_corpus(tmp_path / "c", tmp_path / "out", progress=False)
    prepare_corpus(tmp_path / "c", tmp_path / "out", require_text=False, progress=False)
    assert [u.text for u in read_manifest(tmp_path / "out" / "manifest.jsonl")] == [""]


def test_nothing_found_and_nothing_good_are_errors(tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(CorpusError, match="holds no recordings"):
        prepare_corpus(tmp_path / "c", tmp_path / "out", progress=False)
    (tmp_path / "c" / "a.wav").touch()
    (tmp_path / "c" / "a.txt").write_text("hi")
    with pytest.raises(CorpusError, match="All 1 recordings") as caught:
        prepare_corpus(tmp_path / "c", tmp_path / "out", progress=False)
    assert "empty file" in ledger(tmp_path / "out")["a"]["reason"]
    assert "rejected.jsonl" in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"min_seconds": 5, "max_seconds": 1}, {"valid_share": 1}, {"valid_pattern": "("}]
)
def test_options_that_make_no_sense_are_refused(tmp_path, options):
    with pytest.raises(ConfigError):
        prepare_corpus(tmp_path, tmp_path / "out", **options)


def test_a_run_on_the_same_corpus_writes_the_same_bytes(tmp_path, tone):
    for index in range(6):
        tone(tmp_path / "c" / f"s{index}" / "a.wav", 0.5)
        (tmp_path / "c" / f"s{index}" / "a.txt").write_text("hi")
    for out in ("one", "two"):
        prepare_corpus(tmp_path / "c", tmp_path / out, progress=False)
    for name in ("manifest.jsonl", "rejected.jsonl", "summary.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def recordings(speakers, split=None):
    return [Recording(f"{s}-{i}", Path("x"), "", s, split) for s in speakers for i in range(3)]


def test_no_speaker_is_on_both_sides_and_both_sides_exist():
    for count in (2, 3, 50, 400):
        entries = recordings([f"s{i}" for i in range(count)])
        splits = assign_splits(entries, 0.05, seed=1)
        sides = {
            s: {e.speaker for e, split in zip(entries, splits, strict=True) if split == s}
            for s in splits
        }
        assert not sides["train"] & sides["valid"]
    assert 0.01 < len(sides["valid"]) / 400 < 0.12


def test_a_grown_corpus_keeps_its_split():
    few, many = ([f"s{i}" for i in range(n)] for n in (200, 300))
    assert assign_splits(recordings(many), 0.1, 0)[:600] == assign_splits(recordings(few), 0.1, 0)
    assert assign_splits(recordings(few), 0.1, 0) != assign_splits(recordings(few), 0.1, 1)


def test_a_given_split_stands_and_the_speaker_follows_it():
    entries = recordings(["a"], "valid") + recordings(["a", "b", "c"])
    splits = assign_splits(entries, 0.0, 0)
    assert splits == ["valid"] * 6 + ["train"] * 6


def test_a_single_speaker_is_split_by_utterance():
    entries = [Recording(f"u{i}", Path("x"), "", "me") for i in range(200)]
    share = assign_splits(entries, 0.2, 0).count("valid") / 200
    assert 0.1 < share < 0.3


def test_a_pattern_names_the_held_out_speakers():
    entries = recordings(["v0s008", "v0s009", "v0s019"])
    assert assign_splits(entries, 0.5, 0, re.compile(r"s\d*9$")) == ["train"] * 3 + ["valid"] * 6


def test_durations_end_with_the_recording():
    assert fit_durations((0.5, 0.5, 1.0), 1.25) == pytest.approx((0.5, 0.5, 0.25))
    assert fit_durations((0.5, 0.5), 1.25) == pytest.approx((0.5, 0.75))
    assert fit_durations((0.5, 1.0, 0.5), 1.0) == pytest.approx((0.5, 0.5, 0.0))
