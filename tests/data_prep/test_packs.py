import json
import sys

import numpy as np
import pytest
import soundfile

from speechlm.data_prep import packs
from speechlm.data_prep.manifest import Utterance, read_manifest, write_manifest
from speechlm.data_prep.packs import FULL_SCALE, WaveformPack, pack_waveforms
from speechlm.errors import ConfigError, CorpusError, MissingExtra, UnsupportedAudio

RATE = 8000


def pack(manifest, out, **options):
    options = {"sampling_rate": RATE, "split": "train", "progress": False} | options
    return pack_waveforms(manifest, out, **options)


def test_a_pack_holds_the_samples_of_its_split_in_order(manifest, tmp_path):
    made = pack(manifest, tmp_path / "p")
    wanted = [u for u in read_manifest(manifest) if u.split == "train"]
    assert made.ids == tuple(u.id for u in wanted)
    assert made.speakers == tuple(u.speaker for u in wanted)
    assert made.num_items == len(wanted)
    for index, utterance in enumerate(wanted):
        samples, _ = soundfile.read(utterance.audio, dtype="int16")
        assert np.array_equal(made.waveform(index), samples)
        assert len(samples) == made.lengths[index]
    assert made.seconds == pytest.approx(sum(u.seconds for u in wanted))


def test_full_scale_is_clipped_not_wrapped(tmp_path):
    soundfile.write(
        tmp_path / "a.wav", np.array([1.5, -1.5, 0.5] * 2000, np.float32), RATE, subtype="FLOAT"
    )
    write_manifest(
        tmp_path / "m.jsonl", [Utterance("a", tmp_path / "a.wav", 0.75, "", "", "train")]
    )
    samples = pack(tmp_path / "m.jsonl", tmp_path / "p").waveform(0)
    assert list(samples[:3]) == [FULL_SCALE - 1, -FULL_SCALE, FULL_SCALE // 2]


def test_a_pack_is_built_once_and_again_when_its_source_changes(manifest, tmp_path, monkeypatch):
    pack(manifest, tmp_path / "p")
    with monkeypatch.context() as patch:
        patch.setattr(packs, "read_audio", lambda *_: pytest.fail("decoded again"))
        pack(manifest, tmp_path / "p")
    assert pack(manifest, tmp_path / "p", sampling_rate=4000).sampling_rate == 4000
    write_manifest(manifest, read_manifest(manifest)[:2])
    assert pack(manifest, tmp_path / "p").num_items == 2


def test_a_run_that_breaks_off_leaves_nothing_that_looks_whole(manifest, tmp_path):
    broken = read_manifest(manifest)[-2].audio
    assert broken.exists()
    good = broken.read_bytes()
    broken.write_bytes(b"")
    with pytest.raises(UnsupportedAudio, match="empty file"):
        pack(manifest, tmp_path / "p")
    with pytest.raises(CorpusError, match="is not a waveform pack"):
        WaveformPack.open(tmp_path / "p")
    broken.write_bytes(good)
    assert pack(manifest, tmp_path / "p").num_items == 9
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["samples.npy", "pitch.npy", "index.json"])
def test_a_damaged_pack_is_refused(manifest, tmp_path, name):
    pytest.importorskip("pyworld")
    pack(manifest, tmp_path / "p", with_pitch=True)
    path = tmp_path / "p" / name
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CorpusError, match="damaged"):
        WaveformPack.open(tmp_path / "p")


def test_a_folder_of_something_else_is_not_replaced(manifest, tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(CorpusError, match="not a waveform pack"):
        pack(manifest, tmp_path / "p")
    assert (tmp_path / "p" / "thesis.tex").exists()


def test_an_empty_split_is_an_error(manifest, tmp_path):
    with pytest.raises(CorpusError, match="no utterance in the split 'test'"):
        pack(manifest, tmp_path / "p", split="test")


def test_pitch_lies_under_the_samples_it_belongs_to(tmp_path):
    """A voice jumps from 120 to 240 Hz: so does the track, there, and it is 0 in silence."""
    pytest.importorskip("pyworld")
    rate, hop = 16000, 80
    length = rate + 41  # no whole number of hops
    time = np.arange(length) / rate
    pitch_hz = np.where(time < 0.5, 120.0, 240.0)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 9)) * 0.2 * (time < 0.9)
    soundfile.write(tmp_path / "a.wav", wave, rate)
    write_manifest(
        tmp_path / "m.jsonl", [Utterance("a", tmp_path / "a.wav", length / rate, "", "", "train")]
    )
    made = pack(tmp_path / "m.jsonl", tmp_path / "p", sampling_rate=rate, with_pitch=True)
    track = made.pitch(0)
    assert len(track) == -(-length // hop)
    jump = rate // 2 // hop
    assert np.abs(track[10 : jump - 4] - 120).max() < 1.5
    assert np.abs(track[jump + 4 : 170] - 240).max() < 3
    assert not track[190:].any()
    # Measured on a glide, where half a hop of misalignment would show
    glide = np.linspace(100, 300, rate)
    wave = sum(np.sin(k * 2 * np.pi * np.cumsum(glide) / rate) / k for k in range(1, 9)) * 0.2
    found = packs.pitch_tracker(rate)(wave.astype(np.float32))
    expected = glide[hop // 2 :: hop]
    assert abs(float(np.median((found - expected)[20:-20]))) < 0.25 * (glide[hop] - glide[0])


def test_a_pack_without_pitch_says_so(manifest, tmp_path):
    made = pack(manifest, tmp_path / "p")
    assert not made.has_pitch
    with pytest.raises(CorpusError, match="has no pitch"):
        made.pitch(0)


def test_pitch_without_its_extra_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(MissingExtra, match="extra `pitch`"):
        packs.pitch_tracker(16000)


def test_pitch_refuses_a_rate_without_whole_hops():
    with pytest.raises(ConfigError, match="multiple of 400"):
        packs.pitch_tracker(22050)


def test_the_index_is_plain_json(manifest, tmp_path):
    pack(manifest, tmp_path / "p")
    assert json.loads((tmp_path / "p" / "index.json").read_text())["sampling_rate"] == RATE
