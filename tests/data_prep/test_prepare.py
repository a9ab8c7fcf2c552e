import importlib.util
import json
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechlm.data_prep import summary
from speechlm.data_prep.cleaning import CleaningOptions
from speechlm.data_prep.manifest import CleaningRecord, Utterance, read_manifest
from speechlm.data_prep.prepare import assign_splits, fit_durations, prepare_corpus
from speechlm.data_prep.readers import Recording
from speechlm.data_prep.splits import split_note
from speechlm.data_prep.summary import histogram, summarise
from speechlm.data_prep.text_model import train_text_model
from speechlm.data_prep.tokenize import tokenize_manifest
from speechlm.errors import ConfigError, CorpusError, UnsupportedText


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


def test_of_a_broken_recording_without_transcript_both_are_told(tmp_path, tone):
    tone(tmp_path / "c" / "good.wav", 1.0, text="hi")
    tone(tmp_path / "c" / "untold.wav", 1.0, 300)
    tone(tmp_path / "c" / "cut.wav", 1.0)
    (tmp_path / "c" / "cut.wav").write_bytes((tmp_path / "c" / "cut.wav").read_bytes()[:5000])
    (tmp_path / "c" / "noise.wav").write_bytes(b"no audio")
    (tmp_path / "c" / "empty.wav").touch()
    prepare_corpus(tmp_path / "c", tmp_path / "out", progress=False)
    rows = ledger(tmp_path / "out")
    kinds = {name: row["kind"] for name, row in rows.items()}
    assert kinds == {
        "untold": "transcript",
        "cut": "cut",
        "noise": "unreadable",
        "empty": "unreadable",
    }
    assert all("no transcript" in row["reason"] for row in rows.values())
    assert rows["empty"]["reason"].index("empty file") < rows["empty"]["reason"].index("transcript")


def test_a_file_in_the_place_of_the_output_is_told_before_any_work(tmp_path, tone, manifest, codec):
    tone(tmp_path / "c" / "a.wav", 1.0, text="hi")
    (tmp_path / "taken").write_text("mine")
    for out in (tmp_path / "taken", tmp_path / "taken" / "below"):
        for work in (
            lambda out: prepare_corpus(tmp_path / "c", out, progress=False),
            lambda out: tokenize_manifest(manifest, out, codec=codec, progress=False),
            lambda out: train_text_model(manifest, out, 270),
        ):
            with pytest.raises(ConfigError, match=r"taken is a file; name another folder"):
                work(out)
    assert (tmp_path / "taken").read_text() == "mine"


def test_nothing_found_and_nothing_good_are_errors(tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(CorpusError, match="holds no recordings"):
        prepare_corpus(tmp_path / "c", tmp_path / "out", progress=False)
    (tmp_path / "c" / "a.wav").touch()
    (tmp_path / "c" / "a.txt").write_text("hi")
    with pytest.raises(
        CorpusError, match=r"No recording of .* can be used \(1 rejected\)"
    ) as caught:
        prepare_corpus(tmp_path / "c", tmp_path / "out", progress=False)
    assert "empty file" in ledger(tmp_path / "out")["a"]["reason"]
    assert "rejected.jsonl" in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"min_seconds": 5, "max_seconds": 1},
        {"valid_share": 1},
        {"valid_share": 0.5, "test_share": 0.5},
        {"valid_pattern": "("},
        {"workers": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options):
    with pytest.raises(ConfigError):
        prepare_corpus(tmp_path, tmp_path / "out", **options)


def test_a_run_on_the_same_corpus_writes_the_same_bytes(tmp_path, tone):
    for index in range(6):
        tone(tmp_path / "c" / f"s{index}" / "a.wav", 0.5, text="hi")
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


def noted(entries, valid_share=0.05, pattern=None, **options):
    splits = assign_splits(entries, valid_share, 0, pattern, **options)
    return split_note(entries, splits, valid_share, pattern, **options)


def test_a_small_corpus_is_told_what_became_of_the_shares_and_what_to_set():
    assert noted(recordings([f"s{i}" for i in range(40)])) == ""
    few = noted(recordings(["a", "b", "c"]))
    assert re.search("5 % of 3 speakers is less than one, so 1 is held .*--valid-pattern", few)
    single = noted([Recording("u", Path("x"), "", "me")])
    assert re.search("nothing is in the split valid: 1 recording cannot .*--valid-share 0", single)
    assert "share a voice" in noted([Recording(f"u{i}", Path("x"), "", "") for i in range(200)])
    two = noted(recordings(["a", "b"]), test_share=0.1)
    assert re.search("split test: 2 speakers cannot fill 3 splits", two)
    assert "--resplit" in noted(recordings(["a"], "train") + recordings(["b"], "test"))
    for pattern, found in (("z", "valid: --valid-pattern finds no"), ("[ab]", "train: .* every")):
        assert re.search(found, noted(recordings(["a", "b"]), 0.05, re.compile(pattern)))
    assert noted(recordings(["a"]), valid_share=0.0) == ""


def test_durations_end_with_the_recording():
    assert fit_durations((0.5, 0.5, 1.0), 1.25) == pytest.approx((0.5, 0.5, 0.25))
    assert fit_durations((0.5, 0.5), 1.25) == pytest.approx((0.5, 0.75))
    assert fit_durations((0.5, 1.0, 0.5), 1.0) == pytest.approx((0.5, 0.5, 0.0))


def test_tests_get_speakers_of_their_own():
    for count in (3, 4, 50, 400):
        entries = recordings([f"s{i}" for i in range(count)])
        splits = assign_splits(entries, 0.1, 0, test_share=0.2)
        sides = {
            s: {e.speaker for e, split in zip(entries, splits, strict=True) if split == s}
            for s in ("train", "valid", "test")
        }
        assert all(sides.values())
        assert sum(map(len, sides.values())) == count
    assert 0.05 < len(sides["valid"]) / 400 < 0.15
    assert 0.15 < len(sides["test"]) / 400 < 0.25
    # who validates does not depend on who tests
    without = assign_splits(entries, 0.1, 0)
    assert {e.speaker for e, s in zip(entries, without, strict=True) if s == "valid"} == sides[
        "valid"
    ]


def test_a_corpus_whose_splits_share_speakers_is_told_and_can_be_split_anew(tmp_path, tone):
    lines = []
    for index in range(12):
        tone(tmp_path / "c" / f"{index}.wav", 0.5, 100 + 10 * index)
        split = "test" if index % 2 else "train"
        row = {"id": f"u{index}", "audio": f"{index}.wav", "text": "hi", "split": split}
        lines.append(json.dumps(row | {"speaker": f"s{index % 3}"}))
    (tmp_path / "c" / "list.jsonl").write_text("\n".join(lines))
    summary = prepare_corpus(tmp_path / "c", tmp_path / "out", progress=False)
    assert summary.shared_speakers == 3
    assert "3 speakers are in more than one split of the corpus; --resplit" in summary.table()
    summary = prepare_corpus(
        tmp_path / "c", tmp_path / "out", resplit=True, test_share=0.2, progress=False
    )
    assert (summary.shared_speakers, summary.speakers) == (0, {"train": 1, "valid": 1, "test": 1})


class Shouting:
    """A front end that reads capitals only."""

    note = None

    def phonemize(self, text):
        if not text.isupper():
            raise UnsupportedText("Only capitals can be read; write it in capitals.")
        return text.lower()


def test_a_front_end_fills_in_what_the_corpus_lacks(tmp_path, tone):
    rows = [
        {"id": "brought", "text": "HI", "phonemes": "haɪ"},
        {"id": "read", "text": "HI"},
        {"id": "unread", "text": "hi"},
    ]
    (tmp_path / "c").mkdir()
    with (tmp_path / "c" / "list.jsonl").open("w") as file:
        for place, row in enumerate(rows):
            tone(tmp_path / "c" / f"{place}.wav", 0.5, 100 + 50 * place)
            print(json.dumps(row | {"audio": f"{place}.wav"}), file=file)
    out = tmp_path / "out"
    prepare_corpus(tmp_path / "c", out, front_end=Shouting(), progress=False)
    phonemes = {u.id: u.phonemes for u in read_manifest(out / "manifest.jsonl")}
    assert phonemes == {"brought": "haɪ", "read": "hi", "unread": None}
    prepare_corpus(tmp_path / "c", out, front_end=Shouting(), require_phonemes=True, progress=False)
    assert {u.id for u in read_manifest(out / "manifest.jsonl")} == {"brought", "read"}
    assert ledger(out)["unread"]["reason"].startswith("Only capitals")
    prepare_corpus(tmp_path / "c", out, require_phonemes=True, progress=False)
    assert set(ledger(out)) == {"read", "unread"}


def test_text_is_checked_before_the_audio_is_opened(tmp_path):
    (tmp_path / "c").mkdir()
    for name, text in (("a", "привет"), ("b", "hello")):
        (tmp_path / "c" / f"{name}.wav").write_bytes(b"no audio")
        (tmp_path / "c" / f"{name}.txt").write_text(text)
    with pytest.raises(CorpusError, match=r"\(2 rejected\)"):
        prepare_corpus(
            tmp_path / "c",
            tmp_path / "out",
            options=CleaningOptions(scripts=("Latin",)),
            progress=False,
        )
    kinds = {name: row["kind"] for name, row in ledger(tmp_path / "out").items()}
    assert kinds == {"a": "language", "b": "unreadable"}


def test_a_transcript_of_another_recording_is_found(tmp_path, tone):
    for name, text in (("fits", "about twenty letters of text"), ("not", "a" * 90)):
        tone(tmp_path / "c" / f"{name}.wav", 2.0, 100 + len(text), text=text)
    options = CleaningOptions(characters_per_second=(3, 28))
    prepare_corpus(tmp_path / "c", tmp_path / "out", options=options, progress=False)
    assert {name: row["kind"] for name, row in ledger(tmp_path / "out").items()} == {
        "not": "speaking rate"
    }
    (kept,) = read_manifest(tmp_path / "out" / "manifest.jsonl")
    assert 8 < kept.cleaning.characters_per_second < 28


def test_the_table_says_in_words_what_cleaning_did(tmp_path):
    record = CleaningRecord(trimmed_s=(0.5, 0.25), original_hz=8000, apparent_speed=1.1)
    speech = Utterance("a", tmp_path / "a.wav", 1.0, "", "s", "train", cleaning=record)
    table = summarise(tmp_path / "m", [speech, replace(speech, id="b")], []).table()
    assert "recordings changed: 2 resampled, 2 trimmed (silence of 1.5 s in all)\n" in table
    assert "recordings measured: apparent speed of 2\n" in table
    assert "_" not in table
    plain = summarise(tmp_path / "m", [replace(speech, cleaning=None)], []).table()
    assert "recordings" not in plain


def test_every_step_of_cleaning_has_its_words():
    assert {f.name for f in fields(CleaningRecord)} == {*summary._CHANGES, *summary._MEASURES}


def test_the_report_shows_every_recording_in_its_bars(tmp_path, tone):
    for index in range(9):
        tone(tmp_path / "c" / f"s{index % 3}" / f"{index}.wav", 0.5 + 0.5 * index, 90 + 20 * index)
    (tmp_path / "c" / "s0" / "bad.wav").write_text("no audio")
    summary = prepare_corpus(
        tmp_path / "c", tmp_path / "out", require_text=False, plot=True, progress=False
    )
    assert sum(summary.durations.counts) == 9
    assert summary.per_speaker.counts == (3,)
    report = summary.report()
    assert report.startswith(summary.table())
    assert "unreadable 1 ####" in report
    assert "  3 to 3.5 1 ####" in report
    numbers = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert sum(numbers["durations"]["counts"]) == 9
    if importlib.util.find_spec("matplotlib"):
        assert (tmp_path / "out" / "summary.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "values", [[1.0], [0.4, 0.4], [0.1, 29.9, 3.3], [1.1, 1.2, 1.9], list(range(1, 900))]
)
def test_a_histogram_counts_every_value_once(values):
    found = histogram("x", values)
    assert sum(found.counts) == len(values)
    assert len(found.counts) <= 12
    ends = found.start, found.start + len(found.counts) * found.width
    assert ends[0] <= min(values) + 1e-9
    assert max(values) < ends[1]


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (("", "", ""), "speakers are unknown for all 3 recordings"),
        (("ann/", "", "bob/"), "speakers are unknown for 1 of 3 recordings"),
        (("ann/", "ann/", "bob/"), None),
    ],
)
def test_unknown_speakers_are_told_with_their_cost_and_cure(tmp_path, tone, folders, told):
    corpus = tmp_path / "corpus"
    for number, folder in enumerate(folders):
        path = corpus / f"{folder}{number}.wav"
        tone(path, 1.0 + 0.1 * number)
        path.with_suffix(".txt").write_text("hello")
    table = prepare_corpus(corpus, tmp_path / "out", progress=False).table()
    lines = [line for line in table.splitlines() if "unknown" in line]
    assert len(lines) == (told is not None)
    for line in lines:
        assert told in line
        assert "prompt" in line and "folder" in line and "`speaker`" in line
