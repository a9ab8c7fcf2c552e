"""The mel loss: its hand-written gradient, and what it hears."""

from __future__ import annotations

import pytest
import torch
from tiny_codecs import voice
from torch import Tensor
from torch.nn import functional as F

from speechlm.tokenizer.spectral import frames_of, log_mels
from speechlm.train.mel_loss import MULTI, SINGLE, SINGLE_FLOOR, MelScale, log_mel_distance


def plain(
    decoded: Tensor, original: Tensor, scale: MelScale, floor: float, loudness: float
) -> Tensor:
    """The same by autograd."""
    reach = scale.window // 2
    ours, theirs = (
        log_mels(
            frames_of(F.pad(signal, (reach, reach)), scale.window, scale.window // 4),
            16_000,
            scale.bands,
            floor,
        )
        for signal in (decoded, original)
    )
    weight = (theirs * loudness).exp()
    return ((ours - theirs).abs() * weight / weight.mean((1, 2), keepdim=True)).mean()


@pytest.mark.parametrize("length", [3200, 3333, 500])
def test_the_gradient_is_the_one_of_autograd(length: int) -> None:
    original = torch.stack([voice(length, 120), voice(length, 200, 1)])
    decoded = 0.7 * original + 0.01 * torch.randn(original.shape)
    for scales, floor, loudness in (
        (MULTI, 1e-4, 0.0),
        (MULTI, 1e-4, 0.3),
        (SINGLE, SINGLE_FLOOR, 0.0),
    ):
        fast, slow = (decoded.clone().requires_grad_() for _ in range(2))
        found = log_mel_distance(fast, original, 16_000, scales, floor, loudness)
        each = [plain(slow, original, scale, floor, loudness) for scale in scales]
        wanted = torch.stack(each).mean()
        (3 * found).backward()
        (3 * wanted).backward()
        assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
        assert fast.grad is not None
        assert slow.grad is not None
        assert float((fast.grad - slow.grad).abs().max()) < 1e-3 * float(slow.grad.abs().max())


def test_loudness_weighs_what_is_heard() -> None:
    loud = voice(8000)
    soft = torch.cat([loud, 0.01 * loud])[None]
    wrong_where_soft = torch.cat([loud, 0.005 * loud])[None]
    wrong_where_loud = torch.cat([0.5 * loud, 0.01 * loud])[None]

    def ratio(loudness: float) -> float:
        gaps = [
            log_mel_distance(wrong, soft, 16_000, SINGLE, SINGLE_FLOOR, loudness)
            for wrong in (wrong_where_loud, wrong_where_soft)
        ]
        return float(gaps[0] / gaps[1])

    assert ratio(0.0) == pytest.approx(1, rel=0.2)
    assert ratio(0.3) / ratio(0.0) == pytest.approx(100**0.3, rel=0.2)


def test_half_the_level_is_its_logarithm_away_and_silence_is_no_matter() -> None:
    original = voice(8000)[None]
    assert float(log_mel_distance(original, original, 16_000)) == 0
    # the single scale has no floor to speak of, so that every band counts
    halved = log_mel_distance(0.5 * original, original, 16_000, SINGLE, SINGLE_FLOOR)
    assert float(halved) == pytest.approx(0.693, abs=0.01)
    hiss = 1e-6 * torch.randn(1, 8000)
    assert float(log_mel_distance(hiss, 2 * hiss, 16_000)) == 0
