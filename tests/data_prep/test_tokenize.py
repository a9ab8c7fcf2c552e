import json
import multiprocessing
import os
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechlm.data_prep.manifest import SPLITS, read_manifest, write_manifest
from speechlm.data_prep.read_ahead import batches_by_length
from speechlm.data_prep.shards import TokenShards
from speechlm.data_prep.tokenize import tokenize_manifest
from speechlm.errors import ConfigError, CorpusError
from speechlm.tokenizer.audio import read_audio


def run(manifest, out, codec, **options):
    options = {"rows_per_shard": 5, "batch_seconds": 2.0, "progress": False} | options
    return tokenize_manifest(manifest, out, codec=codec, **options)


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


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


def test_fewer_books_are_an_argument(manifest, tmp_path, codec):
    run(manifest, tmp_path / "d", codec, num_books=2)
    assert TokenShards(tmp_path / "d").row(0).codes.shape[0] == 2
    for books in (1, 5):
        with pytest.raises(ConfigError, match="gives 2 to 4"):
            run(manifest, tmp_path / "d", codec, num_books=books)


def test_a_second_run_encodes_nothing(manifest, tmp_path, codec):
    run(manifest, tmp_path / "d", codec)
    before = content(tmp_path / "d")
    codec.tokenize = lambda *_, **__: pytest.fail("encoded again")
    assert run(manifest, tmp_path / "d", codec).skipped == 3
    assert content(tmp_path / "d") == before


def test_only_what_changed_is_done_again(manifest, tmp_path, codec, tone):
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


def test_a_shorter_manifest_leaves_no_shard_behind(manifest, tmp_path, codec):
    run(manifest, tmp_path / "d", codec)
    write_manifest(manifest, read_manifest(manifest)[:5])
    summary = run(manifest, tmp_path / "d", codec)
    assert (summary.shards, summary.skipped) == (2, 0)
    run(manifest, tmp_path / "e", codec)
    assert content(tmp_path / "d") == content(tmp_path / "e")


def test_a_run_stopped_at_any_write_ends_in_the_same_bytes(manifest, tmp_path, codec, monkeypatch):
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
def test_sigkill_at_three_moments_ends_in_the_same_bytes(manifest, tmp_path, codec):
    run(manifest, tmp_path / "whole", codec, rows_per_shard=2)
    encode = codec.tokenize

    def slowly(*arguments, **options):
        time.sleep(0.03)
        return encode(*arguments, **options)

    codec.tokenize = slowly
    context = multiprocessing.get_context("fork")
    out = tmp_path / "killed"
    for seconds in (0.05, 0.11, 0.17):
        process = context.Process(
            target=run, args=(manifest, out, codec), kwargs={"rows_per_shard": 2}
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


@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=60), st.floats(1, 120))
def test_batches_hold_every_utterance_once_within_the_bound(seconds, bound):
    batches = batches_by_length(seconds, bound)
    assert sorted(i for batch in batches for i in batch) == list(range(len(seconds)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(seconds[i] for i in batch) <= bound


def test_a_real_codec_tokenizes_a_manifest(manifest, tmp_path):
    from speechlm.tokenizer.codec import CodecModel
    from speechlm.tokenizer.config import CodecConfig

    torch.manual_seed(0)
    config = CodecConfig(
        encoder_width=16,
        encoder_layers=1,
        num_mels=20,
        num_pitch_lags=0,
        latent_size=8,
        num_codebooks=4,
        codebook_size=32,
        num_masked_books=2,
        decoder_width=16,
        decoder_layers=1,
        head_width=16,
        head_layers=1,
    )
    model = CodecModel(config).eval()
    write_manifest(manifest, read_manifest(manifest)[:3])
    run(manifest, tmp_path / "d", model)
    shards = TokenShards(tmp_path / "d", codec=model.identity)
    audio = read_audio(read_manifest(manifest)[2].audio, config.sampling_rate)
    assert torch.equal(shards.row(2).codes, model.tokenize([audio]).item(0))
