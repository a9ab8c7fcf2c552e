"""Which frames travel in which packet, with how many copies, and how long a receiver waits for them.

Packets are counted 0, 1, 2 ...; each has `chunk_frames` frames of its own, `interleave` apart, and copies of
what earlier packets had. A sender leaves out copies that would come after their frame is played, so that one
waiting time, `delay_frames`, holds for every redundancy.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from .packet import MAX_BACK, MAX_BLOCK_FRAMES, MAX_BLOCKS, MAX_STRIDE


@dataclass(frozen=True)
class LinkProfile:
    """How a stream is laid into packets and played.

    Attributes:
        chunk_frames: Frames that are new in a packet.
        base_offsets: Packet k also carries the base of packet k - d, for each d.
        fine_offsets: The same for fine codes.
        fine_levels: Levels of fine codes that are sent; None for all.
        delay_frames: Frames by which a frame is played after it could be at the earliest; None for as many as
            the last copy needs. Copies that come later than that are not sent.
        interleave: Distance of a packet's frames; above 1, a lost packet costs no neighbours.
        is_layered: Base and fine codes travel in packets of their own.
        has_context: Fine codes are coded given base codes. Without, layered fine packets need no base packet.
        jitter_seconds: How much later than the fastest packets others may come at least.
        max_jitter_seconds: The most that is waited for slow packets, where there are many.
        hold_seconds: How long a gap is played at full level.
        fade_seconds: In what time it falls to silence then.

    Raises:
        ConfigError: If a value is out of range.
    """

    chunk_frames: int = 2
    base_offsets: tuple[int, ...] = (1, 2)
    fine_offsets: tuple[int, ...] = ()
    fine_levels: int | None = None
    delay_frames: int | None = 4
    interleave: int = 1
    is_layered: bool = False
    has_context: bool = True
    jitter_seconds: float = 0.02
    max_jitter_seconds: float = 0.2
    hold_seconds: float = 0.12
    fade_seconds: float = 0.1

    def __post_init__(self) -> None:
        _require("chunk_frames", self.chunk_frames, 1, MAX_BLOCK_FRAMES)
        _require("interleave", self.interleave, 1, MAX_STRIDE)
        for name in ("base_offsets", "fine_offsets"):
            offsets = getattr(self, name)
            if list(offsets) != sorted(set(offsets)) or any(not 1 <= d <= 16 for d in offsets):
                raise ConfigError(f"{name} is {list(offsets)}; give rising numbers from 1 to 16.")
        if self.fine_levels is not None:
            _require("fine_levels", self.fine_levels, 0, 15)
        if self.delay_frames is not None:
            _require("delay_frames", self.delay_frames, self.own_delay_frames, 100)
        for name in ("jitter_seconds", "max_jitter_seconds", "hold_seconds", "fade_seconds"):
            _require(name, getattr(self, name), 0, 2)
        if self.jitter_seconds > self.max_jitter_seconds:
            raise ConfigError(
                "jitter_seconds is above max_jitter_seconds; give it as the lower one."
            )
        if self._copies_delay() > MAX_BACK:
            raise ConfigError(
                f"Copies would lie more than {MAX_BACK} frames back; choose smaller offsets."
            )
        blocks = [
            sum(len(runs(self.carried(packet, offsets), self.interleave)) for offsets in layers)
            for packet in range(64 * self.interleave, 65 * self.interleave)
            for layers in [(self.base_offsets, self.fine_offsets)]
        ]
        if max(blocks) > MAX_BLOCKS:
            raise ConfigError(
                f"These offsets make {max(blocks)} separate runs of frames in a packet; at most "
                f"{MAX_BLOCKS} fit."
            )

    @property
    def own_delay_frames(self) -> int:
        """Frames that the first frame of a packet waits for the packet to be full."""
        return (self.chunk_frames - 1) * self.interleave

    @property
    def playout_frames(self) -> int:
        """`delay_frames`, or what the last copy needs."""
        return self._copies_delay() if self.delay_frames is None else self.delay_frames

    @property
    def repair_frames(self) -> int:
        """Delay of the latest copy that is sent, beyond a full packet."""
        return max(0, min(self._copies_delay(), self.playout_frames) - self.own_delay_frames)

    def _copies_delay(self) -> int:
        deepest = max((0, *self.base_offsets, *self.fine_offsets))
        delays = [
            self.last_frame(packet + deepest) - self.frames(packet)[0]
            for packet in range(self.interleave)
        ]
        return max(delays)

    def frames(self, packet: int) -> range:
        """The frames that are new in packet number `packet`."""
        group, place = divmod(packet, self.interleave)
        first = group * self.interleave * self.chunk_frames + place
        return range(first, first + self.chunk_frames * self.interleave, self.interleave)

    def last_frame(self, packet: int) -> int:
        """The frame that fills a packet."""
        return self.frames(packet)[-1]

    def packet_of(self, frame: int) -> int:
        """The packet in which a frame is new."""
        group, place = divmod(frame, self.interleave * self.chunk_frames)
        return group * self.interleave + place % self.interleave

    def carried(self, packet: int, offsets: tuple[int, ...]) -> list[int]:
        """Frames of a layer in packet number `packet`: copies that come in time, and its own."""
        latest = self.last_frame(packet) - self.playout_frames
        copies = [
            frame
            for earlier in (packet - d for d in reversed(offsets) if packet >= d)
            for frame in self.frames(earlier)
            if frame >= latest
        ]
        return sorted([*copies, *self.frames(packet)])

    def changed(self, **values: Any) -> LinkProfile:
        """A profile with other values."""
        return dataclasses.replace(self, **values)


def load_profile(name: str) -> LinkProfile:
    """A profile by its name, or from a JSON file of `LinkProfile`'s fields.

    Raises:
        ConfigError: If there is neither, or if the file holds an unknown field or a wrong value.
    """
    if name in PROFILES:
        return PROFILES[name]
    path = Path(name)
    if path.suffix != ".json" or not path.is_file():
        raise ConfigError(
            f"There is no profile {name}; choose {', '.join(PROFILES)}, or give a .json file."
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}).") from error
    return profile_from_mapping(raw, str(path))


def profile_from_mapping(raw: object, where: str) -> LinkProfile:
    """A profile of a mapping from names to values; what is not named keeps its default.

    Raises:
        ConfigError: If it is none, or a name or a value is refused.
    """
    fields = {field.name: field for field in dataclasses.fields(LinkProfile)}
    if not isinstance(raw, dict) or (unknown := set(raw) - set(fields)):
        named = ", ".join(sorted(map(str, unknown))) if isinstance(raw, dict) else "no fields"
        raise ConfigError(f"{where} holds {named}; a profile has {', '.join(fields)}.")
    values = {}
    for name, value in raw.items():
        if name.endswith("_offsets"):
            if not isinstance(value, list) or not all(type(d) is int for d in value):
                raise ConfigError(f"{where}: {name} must be a list of whole numbers.")
            value = tuple(value)
        else:
            default = getattr(LinkProfile(), name)
            kinds = {bool: (bool,), float: (int, float)}.get(type(default), (int, type(None)))
            if type(value) not in kinds or (value is None and name not in _OPTIONAL):
                wanted = {bool: "true or false", float: "a number"}.get(type(default))
                wanted = wanted or ("a whole number" + " or null" * (name in _OPTIONAL))
                raise ConfigError(f"{where}: {name} is {value!r}; it must be {wanted}.")
        values[name] = value
    return LinkProfile(**values)


def runs(frames: Iterable[int], stride: int) -> list[list[int]]:
    """Frames in runs whose members lie `stride` apart, as blocks hold them, in order of their first."""
    found: list[list[int]] = []
    for frame in sorted(frames):
        for run in found:
            if frame == run[-1] + stride and len(run) < MAX_BLOCK_FRAMES:
                run.append(frame)
                break
        else:
            found.append([frame])
    return found


_OPTIONAL = ("fine_levels", "delay_frames")


def _require(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{name} is {value}; give {least} to {most}.")


PROFILES = {
    # the base of every frame in two packets or three, fine codes once
    "default": LinkProfile(),
    # one frame a packet, and the base of the one before
    "low-delay": LinkProfile(chunk_frames=1, base_offsets=(1,), delay_frames=1),
    # fine codes twice: for losses of a tenth
    "redundant-10": LinkProfile(fine_offsets=(1,)),
    # all codes as often as they can come in time: for losses of a third
    "redundant-30": LinkProfile(fine_offsets=(1, 2)),
    # fewer packets: three frames in each, of which two are repeated
    "lean": LinkProfile(chunk_frames=3, base_offsets=(1,)),
    # base and fine codes in packets of their own, for networks that drop by priority
    "layered": LinkProfile(is_layered=True),
}
