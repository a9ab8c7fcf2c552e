"""Profiles: what travels where, and how long it is waited for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speechlm.errors import ConfigError
from speechlm.transmission.link.profile import (
    PROFILES,
    LinkProfile,
    load_profile,
    profile_from_mapping,
)

SHAPES = [
    LinkProfile(),
    LinkProfile(chunk_frames=1, base_offsets=(1, 3), delay_frames=None),
    LinkProfile(chunk_frames=3, base_offsets=(2,), fine_offsets=(1,), delay_frames=None),
    LinkProfile(chunk_frames=2, interleave=3, base_offsets=(1,), delay_frames=None),
    LinkProfile(chunk_frames=3, interleave=2, base_offsets=(), delay_frames=None),
]


@pytest.mark.parametrize("profile", SHAPES)
def test_every_frame_is_new_in_one_packet(profile: LinkProfile) -> None:
    frames = [frame for packet in range(30) for frame in profile.frames(packet)]
    assert sorted(frames)[:60] == list(range(60))[: len(frames)]
    for packet in range(30):
        assert {profile.packet_of(frame) for frame in profile.frames(packet)} == {packet}


@pytest.mark.parametrize("profile", SHAPES)
def test_packets_are_full_in_their_order(profile: LinkProfile) -> None:
    last = [profile.last_frame(packet) for packet in range(40)]
    assert last == sorted(set(last))


@pytest.mark.parametrize("profile", SHAPES)
def test_the_delay_lets_every_copy_come_in_time(profile: LinkProfile) -> None:
    for packet in range(20, 40):
        for offset in profile.base_offsets:
            carried = profile.carried(packet, profile.base_offsets)
            if profile.delay_frames is None:
                assert set(profile.frames(packet - offset)) <= set(carried)
        waited = profile.last_frame(packet) - min(profile.carried(packet, profile.base_offsets))
        assert waited <= profile.playout_frames


def test_copies_that_come_too_late_are_left_out() -> None:
    profile = LinkProfile(chunk_frames=2, base_offsets=(1, 2), delay_frames=4)
    assert profile.carried(10, profile.base_offsets) == [17, 18, 19, 20, 21]
    assert profile.changed(delay_frames=3).carried(10, (1, 2)) == [18, 19, 20, 21]


@pytest.mark.parametrize(
    "values",
    [
        {"chunk_frames": 0},
        {"chunk_frames": 17},
        {"interleave": 5},
        {"base_offsets": (0,)},
        {"base_offsets": (2, 1)},
        {"delay_frames": 0},
        {"fine_levels": 16},
        {"jitter_seconds": 0.3},
        {"hold_seconds": -1.0},
        {"base_offsets": (2, 4, 6, 8, 10, 12, 14, 16), "chunk_frames": 1, "delay_frames": None},
        {"chunk_frames": 16, "base_offsets": (16,), "delay_frames": None},
    ],
)
def test_what_cannot_be_is_refused(values: dict) -> None:
    with pytest.raises(ConfigError):
        LinkProfile(**values)


def test_profiles_have_names_and_files(tmp_path: Path) -> None:
    assert load_profile("low-delay") is PROFILES["low-delay"]
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"chunk_frames": 1, "base_offsets": [1, 2], "delay_frames": None}))
    mine = load_profile(str(file))
    assert mine == LinkProfile(chunk_frames=1, base_offsets=(1, 2), delay_frames=None)
    with pytest.raises(ConfigError, match="default"):
        load_profile("fastest")


@pytest.mark.parametrize(
    "raw",
    [
        [],
        {"chunk": 2},
        {"chunk_frames": 2.0},
        {"chunk_frames": True},
        {"is_layered": 1},
        {"base_offsets": 1},
        {"base_offsets": ["1"]},
        {"jitter_seconds": None},
        {"chunk_frames": None},
    ],
)
def test_a_file_s_mistakes_are_named(raw: object) -> None:
    with pytest.raises(ConfigError):
        profile_from_mapping(raw, "mine.json")
