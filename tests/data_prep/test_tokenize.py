import json
import multiprocessing
import os
import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_codecs import tiny_codec
from tqdm import tqdm

from speechlm.data_prep import read_ahead as reading
from speechlm.data_prep.manifest import SPLITS, read_manifest, write_manifest
from speechlm.data_prep.read_ahead import batches_by_length, read_ahead
from speechlm.data_prep.shards import TokenShards
from speechlm.data_prep.tokenize import tokenize_manifest
from speechlm.errors import ConfigError, CorpusError, SpeechLMError, UnsupportedAudio
from speechlm.tokenizer.audio import read_audio


def run(manifest, out, codec, **options):
    options = {"rows_per_shard": 5, "batch_seconds": 2.0, "progress": False} | options
    return tokenize_manifest(manifest, out, codec=codec, **options)


def by_split(manifest):
    """Utterances in the order of a dataset: by split, then as in the manifest."""
    return sorted(read_manifest(manifest), key=lambda u: SPLITS.index(u.split))


class Killed(BaseException):
    """Stands for a signal: nothing below may catch it."""


def test_every_utterance_becomes_the_row_that_the_codec_makes_of_it_alone(
    manifest, tmp_path, codec
):
    summary = run(manifest, tmp_path / "d", codec)
    utterances = by_split(manifest)
    shards = TokenShards(tmp_path / "d", codec=codec.identity)
    assert (summary.shards, summary.rows, summary.skipped) == (3, 12, 0)
    assert summary.seconds == pytest.approx(sum(u.seconds for u in utterances))
    assert summary.num_frames == shards.lengths.sum()
    for index, utterance in enumerate(utterances):
        row = shards.row(index)
        assert (row.id, row.text, row.speaker, row.split) == (
            utterance.id,
            utterance.text,
            utterance.speaker,
            utterance.split,
        )
        alone = codec.tokenize([read_audio(utterance.audio, codec.identity.sampling_rate)])
        assert torch.equal(row.codes, alone.item(0))
    assert shards.row(0).phonemes == "hˈaɪ"
    assert shards.row(0).durations.tolist() == [10, 5, 5, 10, 10, 10]
    assert not len(shards.row(1).durations)


def test_the_time_of_loading_the_codec_is_told_apart(manifest, tmp_path, monkeypatch):
    ready, loaded = tiny_codec(), []

    def slowly(folder=None):
        time.sleep(0.2)
        loaded.append(folder)
        return ready

    monkeypatch.setattr("speechlm.tokenizer.codec.load_codec", slowly)
    write_manifest(manifest, read_manifest(manifest)[:1])
    made = run(manifest, tmp_path / "d", None)
    assert len(loaded) == 2  # to know the codec, and where the first shard is made
    assert 0.4 <= made.loading_seconds < made.wall_seconds
    rest = made.wall_seconds - made.loading_seconds
    assert f"took {rest:.1f} s, and {made.loading_seconds:.1f} s to load the codec" in made.table()
    assert "1 utterance, " in made.table()
    assert " in 1 shard (0 whole already)" in made.table()
    run(manifest, tmp_path / "d", None)
    assert len(loaded) == 3  # a shard that is whole needs none


def test_fewer_books_are_an_argument(manifest, tmp_path, codec):
    run(manifest, tmp_path / "d", codec, num_books=2)
    assert TokenShards(tmp_path / "d").row(0).codes.shape[0] == 2
    for books in (1, 5):
        with pytest.raises(ConfigError, match="gives 2 to 4"):
            run(manifest, tmp_path / "d", codec, num_books=books)


def test_a_second_run_encodes_nothing(manifest, tmp_path, codec, content):
    run(manifest, tmp_path / "d", codec)
    before = content(tmp_path / "d")
    codec.tokenize = lambda *_, **__: pytest.fail("encoded again")
    assert run(manifest, tmp_path / "d", codec).skipped == 3
    assert content(tmp_path / "d") == before


def test_only_what_changed_is_done_again(manifest, tmp_path, codec, tone, content):
    run(manifest, tmp_path / "d", codec)
    undisturbed = content(tmp_path / "d")
    damaged = tmp_path / "d" / "train-00001.parquet"
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert run(manifest, tmp_path / "d", codec).skipped == 2
    assert content(tmp_path / "d") == undisturbed
    tone(tmp_path / "wavs" / "u11.wav", 0.7)  # another recording under the old name
    assert run(manifest, tmp_path / "d", codec).skipped == 2
    codec.identity = type(codec)("f" * 16).identity
    assert run(manifest, tmp_path / "d", codec).skipped == 0


def test_a_shorter_manifest_leaves_no_shard_behind(manifest, tmp_path, codec, content):
    run(manifest, tmp_path / "d", codec)
    write_manifest(manifest, read_manifest(manifest)[:5])
    summary = run(manifest, tmp_path / "d", codec)
    assert (summary.shards, summary.skipped) == (2, 0)
    run(manifest, tmp_path / "e", codec)
    assert content(tmp_path / "d") == content(tmp_path / "e")


def test_a_run_stopped_at_any_write_ends_in_the_same_bytes(
    manifest, tmp_path, codec, monkeypatch, content
):
    """Three shards and receipts, ledger, card, index: nine renames, stopped before and after each."""
    run(manifest, tmp_path / "whole", codec)
    rename = os.replace
    for moment in range(18):
        calls = 0

        def stop(source, target, moment=moment):
            nonlocal calls
            if moment % 2:
                rename(source, target)
            if calls == moment // 2:
                raise Killed
            if not moment % 2:
                rename(source, target)
            calls += 1

        out = tmp_path / f"stopped-{moment}"
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", stop)
            with pytest.raises(Killed):
                run(manifest, out, codec)
        if moment < 17:
            with pytest.raises(CorpusError, match="no finished token dataset"):
                TokenShards(out)
        (out / ".train-00001.parquet.x7_tmp").write_bytes(b"half")  # what a real signal leaves
        run(manifest, out, codec)
        assert content(out) == content(tmp_path / "whole")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_sigkill_at_three_moments_ends_in_the_same_bytes(manifest, tmp_path, codec, content):
    run(manifest, tmp_path / "whole", codec, rows_per_shard=2)
    encode = codec.tokenize

    def slowly(*arguments, **options):
        time.sleep(0.03)
        return encode(*arguments, **options)

    codec.tokenize = slowly

    def apart(*arguments, **options):
        # tqdm's own lock is shared with forks: one killed while it draws would keep it for ever
        tqdm.set_lock(threading.RLock())
        run(*arguments, **options)

    context = multiprocessing.get_context("fork")
    out = tmp_path / "killed"
    for seconds in (0.05, 0.11, 0.17):
        process = context.Process(
            target=apart, args=(manifest, out, codec), kwargs={"rows_per_shard": 2}
        )
        process.start()
        time.sleep(seconds)
        process.kill()
        process.join()
    run(manifest, out, codec, rows_per_shard=2)
    assert content(out) == content(tmp_path / "whole")


def test_a_recording_that_went_bad_is_in_the_ledger(manifest, tmp_path, codec, monkeypatch):
    bad = read_manifest(manifest)[6].audio
    bad.write_bytes(b"")
    with pytest.raises(CorpusError, match=r"1 of 12 recordings.*empty file"):
        run(manifest, tmp_path / "d", codec)
    monkeypatch.setattr("speechlm.data_prep.tokenize.MAX_REJECTED_SHARE", 0.1)
    summary = run(manifest, tmp_path / "d", codec)
    assert (summary.rejected, summary.rows, summary.skipped) == (1, 11, 2)
    (row,) = map(json.loads, (tmp_path / "d" / "rejected.jsonl").read_text().splitlines())
    assert (row["id"], row["audio"]) == ("u06", str(bad))
    ids = [TokenShards(tmp_path / "d").row(i).id for i in range(11)]
    assert ids == [u.id for u in by_split(manifest) if u.id != "u06"]


def test_a_recording_that_became_hours_is_not_decoded(manifest, tmp_path, codec, tone, monkeypatch):
    tone(tmp_path / "wavs" / "u00.wav", 30.0)  # the manifest says 0.5 s
    monkeypatch.setattr("speechlm.data_prep.tokenize.MAX_REJECTED_SHARE", 0.1)
    assert run(manifest, tmp_path / "d", codec).rejected == 1
    (row,) = map(json.loads, (tmp_path / "d" / "rejected.jsonl").read_text().splitlines())
    assert row["id"] == "u00"
    assert "lasts 30 s" in row["reason"]


def test_one_shard_alone_can_be_made_again(manifest, tmp_path, codec, monkeypatch, content):
    run(manifest, tmp_path / "d", codec)
    undisturbed = content(tmp_path / "d")
    for name in ("train-00000.parquet", "train-00001.parquet"):
        (tmp_path / "d" / name).write_bytes(b"damaged")
    made = run(manifest, tmp_path / "d", codec, only="train-00001")
    assert (made.shards, made.skipped, made.rows, made.missing) == (1, 0, 4, ())
    assert TokenShards(tmp_path / "d", split="valid")  # the dataset stood all the while
    run(manifest, tmp_path / "d", codec, only="train-00000.parquet")
    assert content(tmp_path / "d") == undisturbed
    assert run(manifest, tmp_path / "d", codec, only="valid-00000").skipped == 1
    with pytest.raises(ConfigError, match=r"no shard 'train-00009'.*train-00000.*valid-00000"):
        run(manifest, tmp_path / "d", codec, only="train-00009")
    with pytest.raises(ConfigError, match="has 4 books, 2 were asked for"):
        run(manifest, tmp_path / "d", codec, only="train-00001", num_books=2)


def test_shards_made_one_by_one_become_a_dataset_with_the_last(manifest, tmp_path, codec, content):
    run(manifest, tmp_path / "whole", codec)
    missing = [
        run(manifest, tmp_path / "d", codec, only=name).missing
        for name in ("valid-00000", "train-00001", "train-00000")
    ]
    assert missing == [
        ("train-00000.parquet", "train-00001.parquet"),
        ("train-00000.parquet",),
        (),
    ]
    assert content(tmp_path / "d") == content(tmp_path / "whole")


def test_a_batch_too_large_for_memory_is_encoded_in_halves(manifest, tmp_path, codec, content):
    run(manifest, tmp_path / "whole", codec, batch_seconds=60.0)
    encode, sizes = codec.tokenize, []

    def small(waveforms, **options):
        sizes.append(len(waveforms))
        if len(waveforms) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return encode(waveforms, **options)

    codec.tokenize = small
    run(manifest, tmp_path / "d", codec, batch_seconds=60.0)
    assert max(sizes) > 2
    assert content(tmp_path / "d") == content(tmp_path / "whole")


def test_a_codec_that_fails_on_a_single_utterance_ends_the_run(manifest, tmp_path, codec):
    codec.tokenize = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("device is gone"))
    with pytest.raises(
        SpeechLMError, match=r"not encode u\d\d .*alone .*device is gone.*run again"
    ):
        run(manifest, tmp_path / "d", codec)


def test_audio_that_the_codec_refuses_is_in_the_ledger(manifest, tmp_path, codec, monkeypatch):
    encode = codec.tokenize

    def picky(waveforms, **options):
        if any(len(waveform) == 4000 for waveform in waveforms):
            raise UnsupportedAudio("Half a second is too short.")
        return encode(waveforms, **options)

    codec.tokenize = picky
    monkeypatch.setattr("speechlm.data_prep.tokenize.MAX_REJECTED_SHARE", 0.1)
    made = run(manifest, tmp_path / "d", codec)
    (row,) = map(json.loads, (tmp_path / "d" / "rejected.jsonl").read_text().splitlines())
    assert (made.rows, row["id"], row["reason"]) == (11, "u00", "Half a second is too short.")


def test_reading_runs_ahead_but_not_beyond_its_bound(manifest, monkeypatch):
    utterances = read_manifest(manifest)
    batches = [utterances[start : start + 2] for start in range(0, 12, 2)]
    begun, most = [], 0.0

    def read(utterance, sampling_rate):
        begun.append(utterance)
        return torch.zeros(round(utterance.seconds * sampling_rate))

    monkeypatch.setattr(reading, "read_utterance", read)
    used = 0.0
    for place, found in enumerate(read_ahead(batches, 8000, ahead_seconds=4.0)):
        deadline = time.monotonic() + 10  # the codec works meanwhile
        while place < 5 and len(begun) <= 2 * (place + 1) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert [len(w) for w in found] == [round(u.seconds * 8000) for u in batches[place]]
        most = max(most, sum(u.seconds for u in begun) - used)
        assert place == 5 or len(begun) > 2 * (place + 1)
        used += sum(u.seconds for u in batches[place])
    assert most <= 4.0 + max(u.seconds for u in utterances) * 2
    assert begun == utterances


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=60), st.floats(1, 120))
def test_batches_hold_every_utterance_once_within_the_bound(seconds, bound):
    batches = batches_by_length(seconds, bound)
    assert sorted(i for batch in batches for i in batch) == list(range(len(seconds)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(seconds[i] for i in batch) <= bound


def test_a_real_codec_tokenizes_a_manifest(manifest, tmp_path):
    model = tiny_codec()
    write_manifest(manifest, read_manifest(manifest)[:3])
    run(manifest, tmp_path / "d", model)
    shards = TokenShards(tmp_path / "d", codec=model.identity)
    audio = read_audio(read_manifest(manifest)[2].audio, model.config.sampling_rate)
    assert torch.equal(shards.row(2).codes, model.tokenize([audio]).item(0))
