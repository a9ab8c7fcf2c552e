"""Which packets a network loses: models of loss, each drawn from a seed.

A model is asked packet by packet, in the order of sending. The names that `parse_loss` reads are what
commands and reports call them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ...errors import ConfigError

MAX_TRACE_BYTES = 16 << 20


class LossModel(Protocol):
    """Decides on one packet after the other."""

    @property
    def rate(self) -> float:
        """Share that is lost in the long run."""
        ...

    def is_lost(self, seconds: float) -> bool:
        """Whether the next packet, sent at that time, is lost. Times must not fall."""
        ...


class NoLoss:
    """Every packet arrives."""

    rate = 0.0

    def is_lost(self, seconds: float) -> bool:
        """False."""
        return False


class IndependentLoss:
    """Each packet is lost with the same probability, whatever became of the others."""

    def __init__(self, rate: float, seed: int = 0) -> None:
        self.rate = _share("The rate of loss", rate)
        self._draws = np.random.default_rng(seed)

    def is_lost(self, seconds: float) -> bool:
        """One draw."""
        return bool(self._draws.random() < self.rate)


class MarkovLoss:
    """States that follow each other by chance, each losing a share of its packets.

    Args:
        transitions: `[N, N]`, probability of each state after each state.
        losses: `[N]`, share that is lost in each state.
        seed: Seed of the draws, the first state's included, which is drawn from the stationary shares.
    """

    def __init__(
        self, transitions: Sequence[Sequence[float]], losses: Sequence[float], seed: int = 0
    ) -> None:
        self.transitions = np.asarray(transitions, dtype=np.float64)
        self.losses = np.asarray(losses, dtype=np.float64)
        rows = self.transitions.sum(1)
        if (self.transitions < 0).any() or not np.allclose(rows, 1):
            raise ConfigError(
                "The transitions of a loss model must be probabilities that sum to 1."
            )
        self._draws = np.random.default_rng(seed)
        self._state = int(self._draws.choice(len(self.losses), p=self.stationary))

    @property
    def stationary(self) -> np.ndarray:
        """Share of the packets in each state in the long run, `[N]`."""
        size = len(self.losses)
        # shares that a step leaves as they are, and that sum to 1
        system = np.concatenate([self.transitions.T - np.eye(size), np.ones((1, size))])
        wanted = np.zeros(size + 1)
        wanted[-1] = 1
        shares = np.linalg.lstsq(system, wanted, rcond=None)[0].clip(0)
        return np.asarray(shares / shares.sum())

    @property
    def rate(self) -> float:
        """Share that is lost in the long run."""
        return float(self.stationary @ self.losses)

    def is_lost(self, seconds: float) -> bool:
        """Two draws: whether this one is lost, and the state of the next."""
        share, step = self._draws.random(2)
        lost = bool(share < self.losses[self._state])
        bounds = np.cumsum(self.transitions[self._state])
        self._state = min(int(np.searchsorted(bounds, step, side="right")), len(bounds) - 1)
        return lost


def gilbert_elliott(rate: float, burst: float, bad_loss: float = 1.0, seed: int = 0) -> MarkovLoss:
    """Two states, of which the good one loses nothing (Gilbert 1960; Elliott 1963).

    Args:
        rate: Share that is lost in the long run.
        burst: Mean number of packets in the bad state; with `bad_loss` 1, of a burst of losses.
        bad_loss: Share that is lost in the bad state.
        seed: Seed of the draws.

    Raises:
        ConfigError: If no such model exists.
    """
    _share("The rate of loss", rate)
    _share("The loss in the bad state", bad_loss)
    if burst < 1 or rate >= bad_loss:
        raise ConfigError(
            f"A burst of {burst:g} packets with {bad_loss:g} lost in it gives no loss of {rate:g}; a burst "
            "has 1 packet or more, and loses more than the mean."
        )
    bad = rate / bad_loss
    leave = 1 / burst
    enter = leave * bad / (1 - bad)
    if enter > 1:
        raise ConfigError(f"A loss of {rate:g} needs bursts longer than {burst:g} packets.")
    return MarkovLoss([[1 - enter, enter], [leave, 1 - leave]], [0.0, bad_loss], seed)


def wlan(seed: int = 0) -> MarkovLoss:
    """A wireless network in three states: good, losing, and good for a moment within a burst.

    Source: Milner and James (2004), with the parameters of SoundSpring (arXiv 2501.12696): a loss of 14 %, in
    runs of 1.69 packets.
    """
    stays_good, stays_paused, to_good, stays_lost = 0.9363, 0.5662, 0.3631, 0.4072
    transitions = [
        [stays_good, 1 - stays_good, 0.0],
        [to_good, stays_lost, 1 - to_good - stays_lost],
        [0.0, 1 - stays_paused, stays_paused],
    ]
    return MarkovLoss(transitions, [0.0, 1.0, 0.0], seed)


class Outages:
    """All packets are lost for a while, at times that are as likely as any other.

    Args:
        length_seconds: How long an outage lasts.
        every_seconds: Mean time from the end of one to the begin of the next.
        seed: Seed of the draws.
    """

    def __init__(self, length_seconds: float, every_seconds: float, seed: int = 0) -> None:
        if not 0 < length_seconds < 3600 or not 0 < every_seconds < 36_000:
            raise ConfigError(
                f"Outages of {length_seconds:g} s every {every_seconds:g} s cannot be drawn; give seconds "
                "above 0."
            )
        self._length, self._every = length_seconds, every_seconds
        self._draws = np.random.default_rng(seed)
        self._start = float(self._draws.exponential(every_seconds))

    @property
    def rate(self) -> float:
        """Share of the time that is lost in the long run."""
        return self._length / (self._length + self._every)

    def is_lost(self, seconds: float) -> bool:
        """Whether an outage is on."""
        while seconds >= self._start + self._length:
            self._start += self._length + float(self._draws.exponential(self._every))
        return seconds >= self._start


class TraceLoss:
    """Losses as they were recorded, over and over.

    Args:
        is_lost: For each packet in order.
        seed: Where in the trace to begin; 0 is its begin, others are drawn.
    """

    def __init__(self, is_lost: Sequence[bool], seed: int = 0) -> None:
        if not is_lost:
            raise ConfigError("A loss trace without packets tells nothing; give at least one.")
        self._trace = list(is_lost)
        start = np.random.default_rng(seed).integers(len(self._trace)) if seed else 0
        self._place = int(start)

    @property
    def rate(self) -> float:
        """Share of the trace that is lost."""
        return sum(self._trace) / len(self._trace)

    @classmethod
    def load(cls, path: Path, seed: int = 0) -> TraceLoss:
        """Read a text of `0` (came) and `1` (lost), with white space, and comments that begin with #.

        Raises:
            ConfigError: If the file is missing, too large, or holds anything else.
        """
        if not path.is_file() or path.stat().st_size > MAX_TRACE_BYTES:
            raise ConfigError(
                f"{path} is no loss trace: it is missing, or larger than {MAX_TRACE_BYTES >> 20} MiB."
            )
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        marks = "".join("".join(lines).split())
        if set(marks) - {"0", "1"}:
            raise ConfigError(
                f"{path} is no loss trace: write 0 for a packet that came, 1 for a lost one."
            )
        return cls([mark == "1" for mark in marks], seed)

    def is_lost(self, seconds: float) -> bool:
        """What the trace says of the next packet."""
        lost = self._trace[self._place]
        self._place = (self._place + 1) % len(self._trace)
        return lost


def losses_at(loss: LossModel, seconds: Iterable[float]) -> list[bool]:
    """Whether each of the packets that are sent at these times, in order, is lost."""
    return [loss.is_lost(each) for each in seconds]


def parse_loss(text: str, seed: int = 0) -> LossModel:
    """A loss model by its name.

    Args:
        text: `0.1` (each packet alone), `wlan`, `gilbert:RATE,BURST[,LOSS_IN_BURST]`, `outage:SECONDS,EVERY`,
            or `trace:FILE`.
        seed: Seed of the draws.

    Raises:
        ConfigError: If the text is none of these, or a number is out of range.
    """
    name, _, rest = text.partition(":")
    if name == "wlan" and not rest:
        return wlan(seed)
    if name == "trace" and rest:
        return TraceLoss.load(Path(rest), seed)
    makers: dict[str, tuple[Callable[..., LossModel], int, int]] = {
        "gilbert": (gilbert_elliott, 2, 3),
        "outage": (Outages, 2, 2),
    }
    try:
        if name in makers:
            make, fewest, most = makers[name]
            values = [float(value) for value in rest.split(",")]
            if fewest <= len(values) <= most:
                return make(*values, seed=seed)
        else:
            rate = float(text)
            return IndependentLoss(rate, seed) if rate else NoLoss()
    except ValueError:
        pass
    raise ConfigError(
        f"{text} names no loss; give a share such as 0.1, wlan, gilbert:RATE,BURST, outage:SECONDS,EVERY "
        "or trace:FILE."
    )


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} is {value:g}; give a share from 0 to 1.")
    return value
