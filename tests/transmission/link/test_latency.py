"""The latency budget is what an impulse needs."""

from __future__ import annotations

import pytest

from speechlm.errors import ConfigError
from speechlm.tokenizer.codec import CodecModel, load_codec
from speechlm.transmission.link.latency import latency_budget, measure_latency
from speechlm.transmission.link.profile import PROFILES, LinkProfile


@pytest.mark.parametrize(
    "profile",
    [
        PROFILES["default"],
        PROFILES["low-delay"],
        LinkProfile(chunk_frames=3, interleave=2, base_offsets=(1,), delay_frames=None),
    ],
)
def test_budget_is_what_an_impulse_needs(profile: LinkProfile, codec: CodecModel) -> None:
    budget = latency_budget(codec, profile)
    assert measure_latency(codec, profile) == pytest.approx(budget.total, abs=1e-9)


def test_named_profiles_of_the_shipped_codec_keep_their_promise() -> None:
    codec = load_codec()
    assert latency_budget(codec, PROFILES["default"]).algorithmic <= 0.14 + 1e-9
    assert latency_budget(codec, PROFILES["low-delay"]).algorithmic <= 0.08 + 1e-9


def test_every_part_is_told(codec: CodecModel) -> None:
    budget = latency_budget(codec, LinkProfile(base_offsets=(1,), delay_frames=4))
    assert (budget.frame, budget.chunk, budget.repair) == pytest.approx((0.02, 0.02, 0.04))
    assert budget.concealment == pytest.approx(0.02)
    assert budget.jitter == pytest.approx(0.02)
    told = budget.to_dict()
    assert told["total"] - told["algorithmic"] == pytest.approx(budget.jitter)


def test_a_codec_without_a_bound_is_refused() -> None:
    from tiny_codecs import tiny_codec

    with pytest.raises(ConfigError, match="causal"):
        latency_budget(tiny_codec(is_causal=False), PROFILES["default"])
