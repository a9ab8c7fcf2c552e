"""What cleaning does to a corpus: every step is a field, off unless it cannot hurt."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

from ...errors import ConfigError, MissingExtra
from ...tokenizer.audio import RATES_HZ
from .scripts import known_scripts

DOWNMIXES = ("mean", "first")
LOUDNESS_LUFS = (-50.0, -5.0)  # beyond these no recording of speech is levelled on purpose


@dataclass(frozen=True)
class CleaningOptions:
    """The steps of cleaning and their bounds.

    That a recording decodes to its end, is finite, is not silent, lasts a plausible time and comes
    once is always checked or on by default. Whatever changes audio, and whatever may reject good
    recordings, is off until asked for.

    Attributes:
        min_seconds: Shorter recordings are rejected, after trimming too.
        max_seconds: Longer ones too, by their header, before they are decoded.
        resample_hz: Rate that recordings of another rate are brought to.
        downmix: Store several channels as one, their `mean` or the `first`. Without it such files
            stay as they are, and whoever reads them averages.
        trim_silence: Cut what comes before the first speech and after the last (silero-vad).
        trim_margin_s: Seconds around the speech that trimming keeps.
        loudness_lufs: Integrated loudness that recordings are brought to (ITU-R BS.1770), as far
            as their peaks stay below -1 dBFS.
        max_clipped_share: Largest share of samples that may lie on clipped plateaus.
        min_bandwidth_hz: Least frequency up to which a recording must reach.
        min_bandwidth_share: The same as a share of half the sampling rate.
        scripts: Writing systems of the transcripts (`Latin`, `Cyrillic`, `Han`, ...), by the names
            of Unicode; empty takes any.
        min_script_share: Least share of a transcript's letters that must be of them.
        characters_per_second: Least and most letters a second of speech.
        apparent_speed: Least and most times that a recording with a transcript may seem to run too
            fast, by letters per second, pitch and spectrum together; (0.5, 1.62) kept all of 800
            recordings of English and found 99 % of those labelled with three times their rate.
        duplicates: Reject recordings whose decoded samples were there before.
        near_duplicates: Reject those that sound the same as an earlier one: another encoding,
            rate, level or margin.

    Raises:
        ConfigError: If a value makes no sense.
    """

    min_seconds: float = 0.4
    max_seconds: float = 30.0
    resample_hz: int | None = None
    downmix: str | None = None
    trim_silence: bool = False
    trim_margin_s: float = 0.1
    loudness_lufs: float | None = None
    max_clipped_share: float | None = None
    min_bandwidth_hz: float | None = None
    min_bandwidth_share: float | None = None
    scripts: tuple[str, ...] = ()
    min_script_share: float = 0.9
    characters_per_second: tuple[float, float] | None = None
    apparent_speed: tuple[float, float] | None = None
    duplicates: bool = True
    near_duplicates: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds < math.inf:
            raise ConfigError(
                f"{self.min_seconds:g} to {self.max_seconds:g} s is no range of durations; "
                "give 0 <= min < max."
            )
        if self.resample_hz is not None and not RATES_HZ[0] <= self.resample_hz <= RATES_HZ[1]:
            raise ConfigError(
                f"{self.resample_hz} Hz is no rate to resample to; "
                f"give {RATES_HZ[0]} to {RATES_HZ[1]} Hz."
            )
        if self.downmix is not None and self.downmix not in DOWNMIXES:
            raise ConfigError(
                f"{self.downmix!r} is no way to downmix; use {' or '.join(DOWNMIXES)}."
            )
        if not 0 <= self.trim_margin_s < math.inf:
            raise ConfigError(
                f"A trimming margin of {self.trim_margin_s:g} s makes no sense; give 0 or more."
            )
        low, high = LOUDNESS_LUFS
        if self.loudness_lufs is not None and not low <= self.loudness_lufs <= high:
            raise ConfigError(
                f"A loudness of {self.loudness_lufs:g} LUFS makes no sense; "
                f"give {low:g} to {high:g}, such as -23."
            )
        for name in ("max_clipped_share", "min_bandwidth_share", "min_script_share"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ConfigError(f"{name} is {share:g}; give a share from 0 to 1.")
        if self.min_bandwidth_hz is not None and not 0 < self.min_bandwidth_hz < math.inf:
            raise ConfigError(
                f"A bandwidth of {self.min_bandwidth_hz:g} Hz makes no sense; give more than 0."
            )
        for name in ("characters_per_second", "apparent_speed"):
            bounds = getattr(self, name)
            if bounds is not None and not 0 <= bounds[0] < bounds[1]:
                raise ConfigError(
                    f"{name} from {bounds[0]:g} to {bounds[1]:g} is no range; "
                    "give 0 <= least < most."
                )
        if unknown := sorted({name.upper() for name in self.scripts} - known_scripts()):
            raise ConfigError(
                f"Unicode has no letters of the script {unknown[0].title()!r}; "
                "use names such as Latin, Cyrillic, Arabic or Han."
            )

    def require_extras(self) -> None:
        """Fail before the first recording rather than at it.

        Raises:
            MissingExtra: If a step needs a package that is not installed.
        """
        needs = [
            ("silero_vad", "Trimming silence", self.trim_silence),
            ("pyloudnorm", "Levelling loudness", self.loudness_lufs is not None),
        ]
        for module, step, asked in needs:
            if asked and importlib.util.find_spec(module) is None:
                raise MissingExtra(
                    f"{step} needs the extra `clean`: pip install -e '.[clean]' in a checkout."
                )
