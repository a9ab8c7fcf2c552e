"""Harmonic source, noise and overlap-add against their definitions."""

import math

import torch

from speechlm.tokenizer.fourier import overlap_add
from speechlm.tokenizer.source import BANDWIDTH, PulseTrains, noise_samples, pulse_phase
from speechlm.tokenizer.spectral import (
    frames_of,
    hann_window,
    log_mels,
    mel_filters,
    pitch_evidence,
)


def test_overlap_add_inverts_the_transform() -> None:
    hop, size = 80, 512
    signal = torch.randn(1, 8000)
    reach = (size - hop) // 2
    padded = torch.nn.functional.pad(signal, (reach, reach))
    spectra = torch.fft.rfft(frames_of(padded, size, hop) * hann_window(size, signal.device))
    back, tail = overlap_add(spectra, hop, size)
    back = torch.cat([back, tail], 1)[:, reach : reach + 8000]
    assert torch.allclose(back[:, size:-size], signal[:, size:-size], atol=1e-5)


def test_overlap_add_of_pieces_is_that_of_the_whole() -> None:
    hop, size = 80, 512
    spectra = torch.randn(2, 23, size // 2 + 1, dtype=torch.complex64)
    whole, last = overlap_add(spectra, hop, size)
    pieces, tail = [], None
    for piece in spectra.split([1, 9, 3, 10], 1):
        samples, tail = overlap_add(piece, hop, size, tail)
        pieces.append(samples)
    assert torch.equal(torch.cat(pieces, 1), whole)
    assert torch.equal(tail, last)


def test_pulse_train_is_the_sum_of_cosines() -> None:
    pitch = torch.tensor([[100.0, 173.0, 333.0, 60.0]])
    # pulses in a window's centre, close to it, and anywhere
    phase = torch.tensor([[0.0, 1e-5, 0.9, 0.3]], dtype=torch.float64)
    for size in (512, 90):
        got = PulseTrains(pitch, phase, size, 16_000).frames()
        time = torch.arange(-(size // 2), size - size // 2) / 16_000
        for index in range(4):
            harmonics = BANDWIDTH * 16_000 / float(pitch[0, index])
            whole = math.floor(harmonics)
            x = 2 * math.pi * (float(phase[0, index]) + pitch[0, index].double() * time.double())
            series = sum(torch.cos(k * x) for k in range(1, whole + 1))
            series = (series + (harmonics - whole) * torch.cos((whole + 1) * x)) * math.sqrt(
                2 / harmonics
            )
            expected = (series * torch.hann_window(size)).float()
            assert torch.allclose(got[0, index], expected, atol=2e-4)


def test_some_trains_are_those_of_all() -> None:
    pitch, phase = 60 + 400 * torch.rand(2, 40), torch.rand(2, 40, dtype=torch.float64)
    gain = torch.rand(2, 40)
    gain[0, 3] = 0
    whole = PulseTrains(pitch, phase, 512, 16_000, gain).frames()
    few = PulseTrains(pitch[:, 2:9], phase[:, 2:9], 512, 16_000, gain[:, 2:9])
    assert torch.equal(few.frames(), whole[:, 2:9])
    assert torch.equal(few.frames(slice(3, 4)), whole[:, 5:6])
    assert not whole[0, 3].any()
    unscaled = PulseTrains(pitch, phase, 512, 16_000).frames()
    assert torch.allclose(whole, unscaled * gain[..., None], atol=1e-5)


def test_phase_advances_by_the_pitch_and_continues_over_pieces() -> None:
    pitch, voiced = 100 + 50 * torch.rand(1, 40), torch.ones(1, 40)
    whole, _ = pulse_phase(pitch, voiced, 80, 16_000)
    steps = (whole[:, 1:] - whole[:, :-1]).remainder(1)
    expected = (pitch[:, 1:] + pitch[:, :-1]).double() / 2 * 80 / 16_000
    assert torch.allclose(steps, expected.remainder(1), atol=1e-9)
    voicing = torch.rand(3, 40).round()  # some frames are unvoiced, alone and in a row
    pitch = pitch.repeat(3, 1)
    whole, end = pulse_phase(pitch, voicing, 80, 16_000)
    first, before = pulse_phase(pitch[:, :13], voicing[:, :13], 80, 16_000)
    second, again = pulse_phase(pitch[:, 13:], voicing[:, 13:], 80, 16_000, before)
    assert torch.equal(torch.cat([first, second], 1), whole)
    assert torch.equal(again.phase, end.phase)


def test_phase_forgets_the_past_where_voicing_ends() -> None:
    """So an error of the pitch is heard until then and no longer."""
    pitch, voicing = torch.full((1, 30), 130.0), torch.ones(1, 30)
    voicing[:, 12:15] = 0.02
    off = pitch.clone()
    off[:, 3] += 1
    right, wrong = (pulse_phase(each, voicing, 80, 16_000)[0] for each in (pitch, off))
    assert (right != wrong)[:, 3:12].all()
    assert torch.equal(right[:, 12:], wrong[:, 12:])
    assert right[0, 12] == 0
    assert right[0, 13] > 0  # once: it runs on through the other unvoiced frames


def test_noise_is_white_and_a_function_of_its_place() -> None:
    device = torch.device("cpu")
    noise = noise_samples(0, 100_000, 3, device)
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.square().mean()) - 1) < 0.02
    lagged = [float((noise[lag:] * noise[:-lag]).mean()) for lag in (1, 2, 80)]
    assert max(map(abs, lagged)) < 0.02
    assert torch.equal(noise[500:600], noise_samples(500, 100, 3, device))
    assert not torch.equal(noise[:100], noise_samples(0, 100, 4, device))


def test_mel_filters_cover_every_band_once() -> None:
    filters = mel_filters(16_000, 128, 40, torch.device("cpu"))
    assert torch.allclose(filters.sum(0), torch.ones(40))


def test_full_scale_sine_peaks_near_zero_nepers() -> None:
    time = torch.arange(512) / 16_000
    level = log_mels(torch.sin(2 * math.pi * 1000 * time), 16_000, 80).max()
    assert -1.5 < float(level) < 0.2


def test_pitch_evidence_peaks_at_the_period_and_fades_in_silence() -> None:
    time = torch.arange(512) / 16_000
    for pitch in (90.0, 150.0, 300.0):
        frame = sum(torch.cos(2 * math.pi * pitch * k * time) for k in range(1, 8))
        evidence = pitch_evidence(frame, 16_000, 60.0, 500.0, 128)
        best = 500.0 * (60.0 / 500.0) ** (int(evidence.argmax()) / 127)
        ratio = best / pitch
        assert min(abs(ratio - 1), abs(ratio - 0.5)) < 0.04
        assert evidence.max() > 0.8
        hummed = frame / 7 + torch.sin(2 * math.pi * 50 * time)
        drowned = pitch_evidence(hummed, 16_000, 60.0, 500.0, 128)
        heard = pitch_evidence(hummed, 16_000, 60.0, 500.0, 128, 100.0)
        clean = pitch_evidence(frame / 7, 16_000, 60.0, 500.0, 128, 100.0)
        assert (heard - clean).abs().mean() < (drowned - evidence).abs().mean() / 3
    assert pitch_evidence(torch.full((512,), 1e-6), 16_000, 60.0, 500.0, 128).abs().max() < 1e-3
