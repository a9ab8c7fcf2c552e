"""What the tasks feed the models, and that it can be learned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_codecs import tiny_codec

from speechlm.data_prep.perturb import perturb_manifest
from speechlm.data_prep.shards import TokenShards
from speechlm.data_prep.tokenize import tokenize_manifest
from speechlm.errors import ConfigError
from speechlm.slm.text import NO_TEXT
from speechlm.train.batches import Draw
from speechlm.train.codec import CodecTask, fill_pitch
from speechlm.train.codec_recipe import CodecTraining
from speechlm.train.config import LanguageModelTraining, read_run_config
from speechlm.train.slm import LanguageModelTask


def test_pitch_is_bridged_where_unvoiced() -> None:
    filled = fill_pitch(np.array([0, 100, 0, 0, 0, 200, 0], np.float32))
    assert np.allclose(
        filled, [100, 100, 100 * 2**0.25, 100 * 2**0.5, 100 * 2**0.75, 200, 200], rtol=1e-5
    )
    assert (fill_pitch(np.zeros(3, np.float32)) > 0).all()


def test_codec_crops_are_repeatable_and_follow_the_voice(codec_config: Path) -> None:
    task = CodecTask(read_run_config(codec_config, [], CodecTraining), progress=False)
    first, again = task.item(Draw(3, 99)), task.item(Draw(3, 99))
    assert np.array_equal(first.waveform, again.waveform)
    assert first.waveform.shape == (3200,)
    assert first.pitch_hz.shape == (40,)
    voiced = first.pitch_hz[first.voicing > 0]
    assert len(voiced) > 10
    assert abs(float(np.median(voiced)) - 110) < 5


def test_codec_loss_falls(codec_config: Path) -> None:
    task = CodecTask(
        read_run_config(codec_config, ["continuous_steps=0"], CodecTraining), progress=False
    )
    torch.manual_seed(0)
    batch = task.collate([task.item(Draw(i, i)) for i in range(4)])
    task.before_step(0)
    task.model.train()
    optimizer = torch.optim.AdamW(task.model.parameters(), 5e-3)
    losses = []
    for step in range(40):
        loss, parts = task.loss(task.model, batch, step)
        losses.append(float(parts["mel"]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.grad is not None for p in task.model.parameters())


def test_a_language_model_item_is_a_prompt_of_the_same_speaker_then_the_target(
    slm_config: Path,
) -> None:
    task = LanguageModelTask(read_run_config(slm_config, [], LanguageModelTraining))
    with_text = without_text = 0
    for seed in range(40):
        row = task.rows[seed % len(task.rows)]
        example = task.item(Draw(seed % len(task.rows), seed))
        start = example.prompt_frames
        assert 10 <= start <= 20
        assert torch.equal(example.codes[:, start:], row.codes)
        others = [
            other for other in task.rows if other.speaker == row.speaker and other.id != row.id
        ]
        pieces = [o.codes.unfold(1, start, 1) for o in others]
        assert any(
            (piece == example.codes[:, None, :start]).all(-1).all(0).any() for piece in pieces
        )
        moves = example.pointer.diff()
        assert set(moves.tolist()) <= {0, 1}
        assert int(example.pointer[0]) == 0
        assert int(example.pointer[-1]) == len(example.symbols) - 1
        target = torch.tensor(task.symbols.encode(row.phonemes))
        assert torch.equal(example.symbols[-len(target) :], target)
        assert example.counts[start:].all()
        if example.symbols[0] == NO_TEXT:
            without_text += 1
            assert not example.counts[:start].any()
            assert len(example.symbols) == len(target) + 1
        else:
            with_text += 1
            assert example.counts[:start].all()
    assert min(with_text, without_text) > 8


def _alone(corpus: Path, out: Path) -> Path:
    """Manifest of one utterance of several words of each of two speakers, tokenized in `alone`."""
    row = json.loads(corpus.read_text().splitlines()[0])
    lone = row | {"phonemes": "a b a b aaa", "durations_s": [row["seconds"] / 13] * 13}
    lone |= {"audio": str(corpus.parent / row["audio"])}
    rows = [lone | {"id": split, "speaker": split, "split": split} for split in ("train", "valid")]
    manifest = out / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    tokenize_manifest(manifest, out / "alone", codec=tiny_codec(), progress=False)
    return manifest


def test_the_only_utterance_of_a_speaker_is_its_own_prompt_up_to_the_end_of_a_word(
    corpus: Path, slm_config: Path, tmp_path: Path
) -> None:
    _alone(corpus, tmp_path)
    wishes = [f"shards=['{tmp_path / 'alone'}']"]
    task = LanguageModelTask(read_run_config(slm_config, wishes, LanguageModelTraining))
    whole = torch.tensor(task.symbols.encode(task.rows[0].phonemes))
    space = task.symbols.encode("a a")[2]
    lengths = set()
    for seed in range(40):
        example = task.item(Draw(0, seed))
        start = example.prompt_frames
        assert torch.equal(example.codes, task.rows[0].codes)
        assert 10 <= start <= 20 <= example.codes.shape[1] - 10
        said = example.symbols[int(example.pointer[start]) :]
        assert said[0] == space
        assert torch.equal(said, whole[-len(said) :])
        assert set(example.pointer.diff().tolist()) <= {0, 1}
        assert example.pointer[-1] == len(example.symbols) - 1
        has_text = example.symbols[0] != NO_TEXT
        assert len(example.symbols) == (len(whole) if has_text else len(said) + 1)
        assert example.counts[start:].all()
        assert example.counts[:start].all() if has_text else not example.counts[:start].any()
        lengths.add((start, bool(has_text)))
    assert len(lengths) > 2  # cut in more than one place, with and without text


def test_a_prompt_that_is_too_short_goes_on_with_the_speakers_utterances(slm_config: Path) -> None:
    wishes = ["prompt_seconds=[3.0, 3.0]", "fill_prompts=true"]
    read = [
        LanguageModelTask(read_run_config(slm_config, [*wishes, share], LanguageModelTraining))
        for share in ("prompt_text_share=0", "prompt_text_share=1", "fill_prompts=false")
    ]
    task, told, plain = read
    rows = [task.rows[number] for number in range(len(task.rows))]
    assert all(row.num_frames < task.prompt_range[0] for row in rows)  # each is too short
    for index, row in enumerate(rows):
        example = task.item(Draw(index, index))
        length = example.prompt_frames
        assert length == task.prompt_range[0]
        assert example.symbols[0] == NO_TEXT and not example.pointer[:length].any()
        assert torch.equal(example.codes[:, length:], row.codes)
        others = [r.codes for r in rows if r.speaker == row.speaker and r.id != row.id]
        start = 0
        while start < length:  # one utterance from its beginning on after the other
            rest = example.codes[:, start:length]
            start += max(
                other.shape[1]
                for other in others
                if torch.equal(rest[:, : other.shape[1]], other[:, : rest.shape[1]])
            )
        assert told.item(Draw(index, index)).prompt_frames < length  # a text is said once
        assert plain.item(Draw(index, index)).prompt_frames < length


def _copied(corpus: Path, out: Path, **options: float) -> list[str]:
    """Overrides that draw every prompt from copies of the corpus."""
    perturb_manifest(corpus, out / "copies", copies=2, progress=False, **options)
    manifest = out / "copies" / "manifest.jsonl"
    tokenize_manifest(manifest, out / "copied", codec=tiny_codec(), progress=False)
    return [f"prompt_copies=['{out / 'copied'}']", "prompt_copy_share=1.0"]


def test_behind_the_copy_of_a_prompt_speaks_the_original(
    corpus: Path, slm_config: Path, tmp_path: Path
) -> None:
    wishes = _copied(corpus, tmp_path, max_speed=1.0)
    plain = LanguageModelTask(read_run_config(slm_config, [], LanguageModelTraining))
    task = LanguageModelTask(read_run_config(slm_config, wishes, LanguageModelTraining))
    assert len(task.rows) == len(plain.rows)
    assert task.fingerprint != plain.fingerprint
    copied = TokenShards(tmp_path / "copied", split="train")
    copies = {row.id: row for row in map(copied.row, range(len(copied)))}
    used = set()
    for seed in range(40):
        index = seed % len(task.rows)
        row, example = task.rows[index], task.item(Draw(index, seed))
        start = example.prompt_frames
        assert torch.equal(example.codes[:, start:], row.codes)
        prompt = example.codes[:, None, :start]
        found = [
            name
            for name, copy in copies.items()
            if (copy.codes.unfold(1, start, 1) == prompt).all(-1).all(0).any()
        ]
        assert found
        assert all(name.split("-")[0] == row.speaker for name in found)
        assert all(name.rpartition("~")[0] != row.id for name in found)
        used.update(found)
    assert {name.rpartition("~")[2] for name in used} == {"1", "2"}
    valid = [t._example(t.valid_rows, 0, 1).codes for t in (plain, task)]
    assert torch.equal(*valid)  # held-out speakers are asked as before


def test_the_copied_beginning_of_an_utterance_is_the_prompt_of_its_rest(
    corpus: Path, slm_config: Path, tmp_path: Path
) -> None:
    manifest = _alone(corpus, tmp_path)
    wishes = [f"shards=['{tmp_path / 'alone'}']", *_copied(manifest, tmp_path, max_speed=1.0)]
    task = LanguageModelTask(read_run_config(slm_config, wishes, LanguageModelTraining))
    copied = TokenShards(tmp_path / "copied", split="train")
    copies = [copied.row(number).codes for number in range(len(copied))]
    for seed in range(10):
        example = task.item(Draw(0, seed))
        start = example.prompt_frames
        assert any(torch.equal(example.codes[:, :start], copy[:, :start]) for copy in copies)
        assert torch.equal(example.codes[:, start:], task.rows[0].codes[:, start:])


def test_copies_that_are_none_are_refused(corpus: Path, slm_config: Path, tmp_path: Path) -> None:
    wishes = _copied(corpus, tmp_path)
    with pytest.raises(ConfigError, match="--max-speed 1"):
        LanguageModelTask(read_run_config(slm_config, wishes, LanguageModelTraining))
    shards = read_run_config(slm_config, [], LanguageModelTraining).shards[0]
    with pytest.raises(ConfigError, match="is a copy of"):
        LanguageModelTask(
            read_run_config(slm_config, [f"prompt_copies=['{shards}']"], LanguageModelTraining)
        )


def test_language_model_loss_falls_for_both_stages(slm_config: Path) -> None:
    for overrides in ([], ["stage=nar"], ["model.alignment=prefix"]):
        task = LanguageModelTask(read_run_config(slm_config, overrides, LanguageModelTraining))
        torch.manual_seed(0)
        batch = task.collate([task.item(Draw(i, i)) for i in range(4)])
        optimizer = torch.optim.AdamW(task.model.parameters(), 1e-2)
        losses = []
        for step in range(30):
            loss, _ = task.loss(task.model, batch, step)
            losses.append(float(loss))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[-1] < 0.7 * losses[0], overrides


def test_the_attention_prior_fades_as_the_recipe_says(slm_config: Path) -> None:
    wishes = ["model.alignment=prefix", "attention_prior_steps=[2, 6]"]
    task = LanguageModelTask(read_run_config(slm_config, wishes, LanguageModelTraining))
    strengths = []
    for step in range(8):
        task.before_step(step)
        strengths.append(task.model.prior_strength)
    assert strengths == [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]


@pytest.mark.parametrize("other", [["model.alignment=pointer"], ["stage=nar", "model.ar_books=1"]])
def test_an_attention_prior_is_refused_where_nothing_would_read_it(
    slm_config: Path, other: list[str]
) -> None:
    wishes = [*other, "attention_prior_steps=[2, 6]"]
    with pytest.raises(ConfigError, match="attention_prior_steps"):
        LanguageModelTask(read_run_config(slm_config, wishes, LanguageModelTraining))


def test_the_source_hears_the_pitch_of_its_own_place_at_any_hop(codec_config: Path) -> None:
    """Pitch is tracked every 5 ms; an ISTFT hop may be shorter or longer."""
    tracks = {}
    for upsampling in (4, 2, 8):
        overrides = [f"model.upsampling={upsampling}", "model.fft_size=512"]
        task = CodecTask(read_run_config(codec_config, overrides, CodecTraining), progress=False)
        crop = task.item(Draw(0, 5))
        assert len(crop.pitch_hz) == upsampling * len(crop.waveform) // 320
        tracks[upsampling] = crop.pitch_hz
    assert np.array_equal(tracks[8][::2], tracks[4])
    assert np.array_equal(tracks[2], tracks[4][1::2])
