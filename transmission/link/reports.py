"""What a receiver tells its sender, and what the sender makes of it: how many copies, how many levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import ConfigError
from .profile import PROFILES, LinkProfile

_SMOOTHING = 0.5  # of the loss; a report covers a second or a few
_CALM = (
    0.6  # loss must fall to this share of the bound that was passed before copies are taken back
)
_CALM_REPORTS = 5


@dataclass(frozen=True)
class ReceiverReport:
    """The part of an RTCP receiver report (RFC 3550, section 6.4.1) that matters here.

    Attributes:
        fraction_lost: Share of the packets since the last report that were lost.
        num_lost: All packets lost so far.
        jitter_seconds: Smoothed variation of transit times.
    """

    fraction_lost: float
    num_lost: int
    jitter_seconds: float


def ladder_of(profile: LinkProfile) -> tuple[LinkProfile, ...]:
    """A profile, it with fine codes of the packet before, and with as many of them as of the base."""
    offsets = profile.base_offsets
    return (
        profile,
        profile.changed(fine_offsets=offsets[:1]),
        profile.changed(fine_offsets=offsets),
    )


class Adaptation:
    """Chooses a profile from a ladder by what receivers report.

    Redundancy rises at once when the smoothed loss passes a bound, and falls one rung after five calm
    reports. Fine levels are dropped one a report while packets queue up, which is what growing jitter means,
    and come back one at a time likewise; one stays.

    Example:
        >>> adaptation = Adaptation(ladder_of(sender.profile))
        >>> sender.adapt(adaptation.push(receiver.report()))

    Args:
        ladder: Profiles from little redundancy to much, such as `ladder_of` gives.
        bounds: Loss above which the next rung is taken, one fewer than there are rungs.
        num_levels: Levels that are sent where nothing queues up.
        max_jitter_seconds: Jitter above which levels are dropped.

    Raises:
        ConfigError: If bounds do not fit the ladder.
    """

    def __init__(
        self,
        ladder: Sequence[LinkProfile] = ladder_of(PROFILES["default"]),
        bounds: Sequence[float] = (0.03, 0.15),
        num_levels: int | None = None,
        max_jitter_seconds: float = 0.06,
    ) -> None:
        if len(bounds) != len(ladder) - 1 or list(bounds) != sorted(bounds):
            raise ConfigError(
                f"{len(ladder)} rungs need {len(ladder) - 1} rising bounds of loss, not {list(bounds)}."
            )
        self._ladder, self._bounds = ladder, bounds
        self._most_levels, self._max_jitter = num_levels, max_jitter_seconds
        self._loss = 0.0
        self._rung = self._dropped = 0
        self._num_calm = self._num_steady = 0

    @property
    def profile(self) -> LinkProfile:
        """The profile to send with."""
        rung = self._ladder[self._rung]
        if not self._most_levels:
            return rung
        return rung.changed(fine_levels=self._most_levels - self._dropped)

    def push(self, report: ReceiverReport) -> LinkProfile:
        """Take in a report; returns the profile to send with."""
        self._loss += _SMOOTHING * (report.fraction_lost - self._loss)
        loss = max(self._loss, 0.0)
        rung = sum(loss > bound for bound in self._bounds)
        if rung > self._rung:
            self._rung, self._num_calm = rung, 0
        elif self._rung and loss < _CALM * self._bounds[self._rung - 1]:
            self._num_calm += 1
            if self._num_calm >= _CALM_REPORTS:
                self._rung, self._num_calm = self._rung - 1, 0
        else:
            self._num_calm = 0
        self._push_jitter(report.jitter_seconds)
        return self.profile

    def _push_jitter(self, jitter: float) -> None:
        if not self._most_levels:
            return
        if jitter > self._max_jitter:
            self._dropped, self._num_steady = min(self._dropped + 1, self._most_levels - 1), 0
        elif jitter < _CALM * self._max_jitter and self._dropped:
            self._num_steady += 1
            if self._num_steady >= _CALM_REPORTS:
                self._dropped, self._num_steady = self._dropped - 1, 0
        else:
            self._num_steady = 0
