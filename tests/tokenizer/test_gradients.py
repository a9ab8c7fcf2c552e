"""Gradients written by hand are those that torch would find by itself, only sooner."""

import torch
from torch.nn import functional as F

from speechlm.tokenizer.blocks import DepthwiseConv
from speechlm.tokenizer.fourier import overlap_add
from speechlm.tokenizer.source import filter_source
from speechlm.tokenizer.spectral import hann_window


def test_filtering_a_source() -> None:
    shape = (2, 3, 5)
    values = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    pulses, noise = (torch.randn(shape, dtype=torch.complex128) for _ in range(2))
    assert torch.autograd.gradcheck(lambda g, a, n: filter_source(g, a, pulses, n, noise), values)
    assert torch.autograd.gradcheck(lambda g, a: filter_source(g, a, pulses.real), values[:2])


def test_a_gain_at_its_bound_does_not_pull() -> None:
    log_gain = torch.full((1, 1, 4), 7.0, requires_grad=True)
    angle = torch.randn(1, 1, 4, requires_grad=True)
    spectra = filter_source(log_gain, angle, torch.ones(1, 1, 4))
    torch.view_as_real(spectra).square().sum().backward()
    assert not log_gain.grad.any()
    assert torch.allclose(spectra.abs(), torch.full((1, 1, 4), 5.0).exp())


def test_depthwise_convolution() -> None:
    conv = DepthwiseConv(4, 7)
    rows = torch.randn(2, 11, 4, requires_grad=True)
    wanted = [rows, conv.conv.weight, conv.conv.bias]
    pull = torch.randn(2, 5, 4)
    ours = torch.autograd.grad(conv(rows), wanted, pull)
    theirs = torch.autograd.grad(conv.conv(rows.transpose(1, 2)).transpose(1, 2), wanted, pull)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-5)


def test_overlap_add() -> None:
    size, hop = 48, 10
    spectra = torch.randn(2, 9, size // 2 + 1, dtype=torch.complex64, requires_grad=True)
    samples, tail = overlap_add(spectra, hop, size)
    window = hann_window(size, spectra.device)
    squares = F.pad(window.square(), (0, -size % hop)).view(-1, hop).sum(0)
    envelope = squares.repeat(-(-size // hop))[:size]
    frames = torch.fft.irfft(spectra, size) * window / envelope
    length = 8 * hop + size
    whole = F.fold(frames.transpose(1, 2), (1, length), (1, size), stride=(1, hop))[:, 0, 0]
    assert torch.allclose(torch.cat([samples, tail], 1), whole, atol=1e-6)
    pull = torch.randn_like(whole)
    ours = torch.autograd.grad(torch.cat([samples, tail], 1), spectra, pull)
    assert torch.allclose(ours[0], torch.autograd.grad(whole, spectra, pull)[0], atol=1e-6)
