"""AMR-WB packet by packet, without copies: its decoder is told of lost frames and conceals them."""

from __future__ import annotations

import ctypes
import ctypes.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import MissingExtra
from .baselines import AmrWb
from .bitstreams import amr_wb_frames

RATE_HZ = 16_000
FRAME_SECONDS = 0.02
LAG_SAMPLES = 94  # by which the output lags behind the frame (docs/evaluation.md, "Delays found")
_FRAME_SAMPLES = 320
_SPEECH_LOST = bytes([14 << 3])  # a frame header of 3GPP TS 26.201 for speech that did not come
_REQUEST_BITS, _HEADER_BITS = 4, 6  # RFC 4867, 4.3: of a packet and of each frame in it


class AmrWbPackets:
    """The encoder of the baseline, and the decoder library of opencore-amr.

    Raises:
        MissingExtra: If one of them is not installed.
    """

    def __init__(self) -> None:
        found = ctypes.util.find_library("opencore-amrwb")
        if found is None or not AmrWb.installed():
            raise MissingExtra(
                "AMR-WB under loss needs the libraries vo-amrwbenc and opencore-amrwb and ffmpeg, not all of "
                "which are here; Debian has them as libvo-amrwbenc0, libopencore-amrwb0 and ffmpeg."
            )
        self._library: Any = ctypes.CDLL(found)
        self._library.D_IF_init.restype = ctypes.c_void_p

    def encode(self, waveform: Tensor, mode: str) -> list[bytes]:
        """Frames of 20 ms of float `[L]` at 16 kHz, each behind its header byte; `mode` as in `AmrWb`.

        Raises:
            ConfigError: If the encoder fails.
        """
        padded = torch.nn.functional.pad(waveform, (0, LAG_SAMPLES))
        with tempfile.TemporaryDirectory(prefix="speechlm-") as folder:
            coded = AmrWb(mode).encode(padded, RATE_HZ, Path(folder)).read_bytes()
        return amr_wb_frames(coded)

    def decode(self, frames: Sequence[bytes], is_lost: Sequence[bool], num_samples: int) -> Tensor:
        """What a receiver hears, float32 `[num_samples]`, under the original."""
        state = ctypes.c_void_p(self._library.D_IF_init())
        heard = np.zeros((len(frames), _FRAME_SAMPLES), np.int16)
        try:
            for number, frame in enumerate(frames):
                data = _SPEECH_LOST if is_lost[number] else frame
                samples = heard[number].ctypes.data_as(ctypes.c_void_p)
                self._library.D_IF_decode(state, data, samples, int(is_lost[number]))
        finally:
            self._library.D_IF_exit(state)
        samples = torch.from_numpy(heard.reshape(-1).astype(np.float32) / 2**15)
        return samples[LAG_SAMPLES:][:num_samples]


def packet_bytes(frame_bits: Sequence[int]) -> int:
    """Of an RTP payload of such frames, bandwidth-efficient (RFC 4867, 4.3)."""
    return -(-(_REQUEST_BITS + sum(_HEADER_BITS + bits for bits in frame_bits)) // 8)
