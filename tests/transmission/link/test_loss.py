"""Loss models have the rates and bursts that their names say."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from speechlm.errors import ConfigError
from speechlm.transmission.link.channel import Channel, ChannelFaults
from speechlm.transmission.link.loss import LossModel, parse_loss, wlan

COUNT = 60_000


def drawn(model: LossModel, count: int = COUNT, period: float = 0.04) -> list[bool]:
    return [model.is_lost(place * period) for place in range(count)]


def mean_burst(lost: list[bool]) -> float:
    runs = [len(list(run)) for is_lost, run in groupby(lost) if is_lost]
    return sum(runs) / len(runs)


@pytest.mark.parametrize(
    ("name", "rate", "burst"),
    [
        ("0.1", 0.1, 1 / 0.9),
        ("0.3", 0.3, 1 / 0.7),
        ("wlan", 0.138, 1.69),
        ("gilbert:0.1,4", 0.1, 4),
        ("gilbert:0.2,2.5", 0.2, 2.5),
        ("outage:0.2,2", 0.2 / 2.2, 5),
    ],
)
def test_rates_and_bursts(name: str, rate: float, burst: float) -> None:
    lost = drawn(parse_loss(name, seed=1))
    assert sum(lost) / COUNT == pytest.approx(rate, rel=0.06)
    assert mean_burst(lost) == pytest.approx(burst, rel=0.06)


def test_a_bad_state_may_let_some_pass() -> None:
    lost = drawn(parse_loss("gilbert:0.1,20,0.5", seed=1))
    assert sum(lost) / COUNT == pytest.approx(0.1, rel=0.1)
    assert mean_burst(lost) < 3


def test_shares_of_the_wlan_model() -> None:
    assert wlan().rate == pytest.approx(0.138, abs=1e-3)
    assert wlan().stationary.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", ["0.2", "wlan", "gilbert:0.2,3", "outage:0.1,1"])
def test_a_seed_draws_the_same_again(name: str) -> None:
    first, again, other = (drawn(parse_loss(name, seed), 2000) for seed in (3, 3, 4))
    assert first == again != other


def test_no_loss_is_none() -> None:
    assert not any(drawn(parse_loss("0"), 1000))
    assert all(drawn(parse_loss("1"), 100))


def test_a_trace_is_played_over_and_over(tmp_path: Path) -> None:
    trace = tmp_path / "trace.txt"
    trace.write_text("# an office, 40 ms\n0 1 0\n0\n")
    assert drawn(parse_loss(f"trace:{trace}"), 6) == [False, True, False, False, False, True]
    trace.write_text("0 2")
    with pytest.raises(ConfigError, match="0 for a packet"):
        parse_loss(f"trace:{trace}")
    trace.write_text("# nothing")
    with pytest.raises(ConfigError):
        parse_loss(f"trace:{trace}")


@pytest.mark.parametrize(
    "name",
    [
        "much",
        "-0.1",
        "1.5",
        "nan",
        "wlan:2",
        "gilbert:0.1",
        "gilbert:0.1,0.5",
        "gilbert:0.9,1",
        "gilbert:0.5,3,0.4",
        "outage:0,1",
        "outage:0.2",
        "trace:",
        "trace:nowhere.txt",
    ],
)
def test_what_names_no_loss_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        parse_loss(name)


def test_a_channel_delays_reorders_and_doubles() -> None:
    channel = Channel(parse_loss("0.1", 2), ChannelFaults(0.01, 0.1, 0.2, 0.1), seed=5)
    lost = [channel.send(str(k).encode(), k * 0.04) for k in range(5000)]
    arrived = channel.receive(1e9)
    times = [seconds for seconds, _ in arrived]
    numbers = [int(packet) for _, packet in arrived]
    assert times == sorted(times) and numbers != sorted(numbers)
    assert set(numbers) == {k for k in range(5000) if not lost[k]}
    assert len(numbers) - len(set(numbers)) == pytest.approx(450, abs=80)
    late = [s - k * 0.04 for s, k in zip(times, numbers, strict=True)]
    assert min(late) >= 0 and max(late) <= 0.01 + 0.2 + 0.01
    assert sum(delay >= 0.2 for delay in late) == pytest.approx(495, abs=90)


def test_losses_do_not_hang_on_faults() -> None:
    plain, faulty = (
        Channel(parse_loss("wlan", 2)),
        Channel(parse_loss("wlan", 2), ChannelFaults(0.1)),
    )
    assert [plain.send(b"", k) for k in range(500)] == [faulty.send(b"", k) for k in range(500)]
