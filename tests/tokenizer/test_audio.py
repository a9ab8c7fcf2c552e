"""Audio files in and out."""

import numpy as np
import pytest
import soundfile
import torch
from tiny_codecs import voice

from speechlm.errors import UnsupportedAudio
from speechlm.tokenizer.audio import inspect_audio, read_audio, resample, write_audio


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".opus"])
def test_every_format_comes_back(tmp_path, suffix: str) -> None:
    wave = voice(16_000)
    path = tmp_path / f"a b'c{suffix}"
    write_audio(path, wave, 16_000)
    back = read_audio(path, 16_000)
    length = min(len(back), len(wave))
    assert abs(len(back) - len(wave)) < 3000  # MP3 pads
    spectra = [
        torch.stft(w[:length], 512, window=torch.hann_window(512), return_complex=True).abs()
        for w in (wave, back)
    ]
    assert float((spectra[0] * spectra[1]).sum() / spectra[0].norm() / spectra[1].norm()) > 0.95


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44_100, 2), (48_000, 6), (11_025, 1)])
def test_any_rate_and_channel_count_becomes_mono(tmp_path, rate: int, channels: int) -> None:
    time = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "x.wav", np.repeat(tone[:, None], channels, 1) * 0.5, rate)
    wave = read_audio(tmp_path / "x.wav", 16_000)
    assert wave.shape == (16_000,)
    assert int(torch.fft.rfft(wave).abs().argmax()) == 440


def test_one_sample_survives_resampling() -> None:
    assert len(resample(torch.ones(1), 48_000, 16_000)) >= 1


def _write(path, content) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(path, content, 16_000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty file"),
        (b"this is text, not audio\n" * 20, "not audio"),
        (np.zeros(0, np.float32), "no samples"),
        (np.array([0.0, np.nan, 0.1], np.float32), "NaN"),
    ],
)
def test_bad_files_get_one_sentence(tmp_path, content, sentence: str) -> None:
    path = tmp_path / "bad.wav"
    _write(path, content)
    with pytest.raises(UnsupportedAudio, match=sentence) as caught:
        read_audio(path, 16_000)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_files_are_read_or_refused_never_a_crash(tmp_path) -> None:
    write_audio(tmp_path / "whole.flac", voice(8000), 16_000)
    data = (tmp_path / "whole.flac").read_bytes()
    lengths = []
    for cut in range(0, len(data), max(1, len(data) // 40)):
        (tmp_path / "cut.flac").write_bytes(data[:cut])
        try:
            lengths.append(len(read_audio(tmp_path / "cut.flac", 16_000)))
        except UnsupportedAudio:
            lengths.append(0)
    assert lengths[0] == 0
    assert max(lengths) <= 8000


def test_limits_hold_before_reading(tmp_path) -> None:
    write_audio(tmp_path / "long.wav", torch.zeros(16_000 * 3), 16_000)
    with pytest.raises(UnsupportedAudio, match="limit"):
        inspect_audio(tmp_path / "long.wav", max_seconds=2)
    with pytest.raises(UnsupportedAudio, match="does not exist"):
        inspect_audio(tmp_path / "none.wav")
    with pytest.raises(UnsupportedAudio, match="Cannot write"):
        write_audio(tmp_path / "x.xyz", torch.zeros(10), 16_000)
    with pytest.raises(UnsupportedAudio, match="folder"):
        write_audio(tmp_path / "no" / "x.wav", torch.zeros(10), 16_000)
