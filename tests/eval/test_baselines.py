"""Programmes on PATH are judged at the rate of what they wrote, under their original."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from speechlm.data_prep.readers import Recording
from speechlm.errors import ConfigError
from speechlm.eval import baselines
from speechlm.eval.baselines import FAMILIES, find_baselines

RATE = 16_000
RECORDING = Recording("one", Path("one.wav"), None, "")

# what stands in for a codec: a frame is 160 samples in 7 bytes, the rest is remembered beside it
C2ENC = """
data = open(sys.argv[2], "rb").read()
frames = len(data) // 640
open(sys.argv[3], "wb").write(bytes(7 * frames))
open(sys.argv[3] + ".kept", "wb").write(data)
"""
C2DEC = """
data = open(sys.argv[2] + ".kept", "rb").read()
open(sys.argv[3], "wb").write(bytes(2 * 80) + data)
"""
OPUSENC = """
import soundfile
samples, rate = soundfile.read(sys.argv[-2])
soundfile.write(sys.argv[-1], samples, rate, format="OGG", subtype="OPUS")
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def programme(folder: Path, name: str, code: str) -> None:
    (folder / name).write_text(f"#!{sys.executable}\nimport sys\n{code}")
    (folder / name).chmod(0o755)


def bursts() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    slow = torch.nn.functional.interpolate(
        torch.randn(1, 1, 2000, generator=generator), RATE, mode="linear"
    )
    return 0.1 * slow[0, 0] * (torch.arange(RATE) % 4000 > 1500)


def test_programmes_that_are_absent_are_a_sentence_each(path: Path) -> None:
    systems, notes = find_baselines("all")
    assert systems == []
    assert len(notes) == len(FAMILIES)
    for note, family in zip(notes, FAMILIES.values(), strict=True):
        assert note.startswith(family.title) and note.endswith("not on this machine.")
    assert find_baselines(None) == ([], [])


def test_codec2_counts_its_bits_not_its_bytes_and_its_delay_is_removed(path: Path) -> None:
    programme(path, "c2enc", C2ENC)
    programme(path, "c2dec", C2DEC)
    (system,), notes = find_baselines("codec2:1300")
    assert "counted in the coded files" in notes[-1]
    wave = bursts()
    decoded = system.transmit(RECORDING, wave, RATE)
    assert decoded is not None and system.notes == []
    assert decoded.bits / decoded.seconds == 1300  # 52 bits in the 7 bytes of 40 ms
    assert 1.0 <= decoded.seconds <= 1.1
    assert decoded.waveform.shape == wave.shape
    assert float((decoded.waveform - wave).norm() / wave.norm()) < 0.1


def test_opus_is_read_back_from_the_coded_file(path: Path) -> None:
    programme(path, "opusenc", OPUSENC)
    (system,), _ = find_baselines("Opus:24")
    decoded = system.transmit(RECORDING, bursts(), RATE)
    assert decoded is not None, system.notes
    assert decoded.waveform.shape == (RATE,)
    assert 1.1 <= decoded.seconds < 1.2  # the silence after the recording is coded too
    assert 2_000 < decoded.bits / decoded.seconds < 256_000


def test_a_constant_rate_of_opus_is_asked_of_the_programme(path: Path) -> None:
    programme(path, "opusenc", f"open({str(path / 'asked')!r}, 'w').write(' '.join(sys.argv))")
    for mode, name in (("6cbr", "Opus 6 CBR"), ("6", "Opus 6")):
        (system,), _ = find_baselines(f"opus:{mode}")
        assert system.name == name
        system.transmit(RECORDING, bursts(), RATE)
        asked = (path / "asked").read_text()
        assert "--bitrate 6 " in asked and "--framesize 20 " in asked
        assert ("--hard-cbr" in asked) == (mode == "6cbr")


def test_what_was_sent_tells_the_size_of_the_file_and_the_time_of_the_programmes(
    path: Path,
) -> None:
    busy = "import time\nwhile time.process_time() < 0.4: pass\n"
    programme(path, "c2enc", busy + C2ENC)
    programme(path, "c2dec", C2DEC)
    (system,), _ = find_baselines("codec2:1300")
    sent = system.send(bursts(), RATE)
    frames = round(sent.payload.seconds / 0.04)
    assert (sent.num_bytes, sent.payload.bits) == (7 * frames, 52 * frames)
    assert sent.encode_seconds > 0.4 > sent.decode_seconds > 0


def test_a_programme_that_fails_is_noted_and_ends_nothing(path: Path) -> None:
    programme(path, "c2enc", "sys.exit('no such mode today')")
    programme(path, "c2dec", C2DEC)
    (system,), _ = find_baselines("codec2:3200")
    assert system.transmit(RECORDING, bursts(), RATE) is None
    (note,) = system.notes
    assert "c2enc ended with 1 (no such mode today)" in note and "on one" in note
    programme(path, "c2enc", "")
    assert system.transmit(RECORDING, bursts(), RATE) is None
    (path / "c2dec").write_text("#!/nowhere/at/all")
    assert system.transmit(RECORDING, bursts(), RATE) is None
    assert "failed on 1 recordings" in system.notes[0]


def test_an_ffmpeg_without_the_encoder_is_no_baseline(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programme(path, "ffmpeg", "print(' A....D aac   AAC')")
    monkeypatch.setattr(baselines.ctypes.util, "find_library", lambda name: None)
    assert find_baselines("opus,amr-wb")[0] == []
    other = path.parent / "other"
    other.mkdir()
    programme(other, "ffmpeg", "print(' A..... libopus   Opus\\n A..... libvo_amrwbenc  AMR')")
    monkeypatch.setenv("PATH", str(other))
    names = [system.name for system in find_baselines("opus:6,amr-wb:6.6")[0]]
    assert names == ["Opus 6", "AMR-WB 6.6"]


@pytest.mark.parametrize(
    "request_", ["speex:11", "mp3", "opus:3", "opus:fast", "codec2:450", "amr-wb:12"]
)
def test_unknown_baselines_and_modes_are_one_sentence(request_: str) -> None:
    with pytest.raises(ConfigError, match=r"There is no baseline|has no mode") as raised:
        find_baselines(request_)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "request_", ["opus:12", "opus:6cbr", "codec2:700c", "amr-wb:8.85", "speex:2"]
)
def test_an_installed_codec_keeps_its_rate_and_its_sound(request_: str) -> None:
    systems, notes = find_baselines(request_)
    if not systems:
        pytest.skip(notes[0])
    time = torch.arange(2 * RATE) / RATE
    phase = 6.2832 * (140 * time + 4 * torch.sin(3 * time))
    voice = sum(torch.sin(k * phase) / k for k in range(1, 20))
    wave = 0.1 * voice * (torch.sin(20 * time) > -0.3)
    decoded = systems[0].transmit(RECORDING, wave, RATE)
    assert decoded is not None, systems[0].notes
    rate = decoded.bits / decoded.seconds
    asked = {
        "opus:12": 12_000,
        "opus:6cbr": 6_000,
        "codec2:700c": 700,
        "amr-wb:8.85": 8_850,
        "speex:2": 7_750,
    }[request_]
    assert rate == pytest.approx(asked, rel=0.5 if request_ == "opus:12" else 1e-6)
    loud = wave.abs() > 0.02
    assert decoded.waveform[loud].std() > 3 * decoded.waveform[wave == 0].std()
