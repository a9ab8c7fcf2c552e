"""Opus packet by packet, with its own means against loss: the library that PyAV's packages bring.

Programmes such as opusenc know files only. Here packets are lost, and the decoder is told so (RFC 6716,
2.1.7: a packet may carry a coarser copy of the one before it).
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, MissingExtra
from .extras import EXTRA, require
from .program_codec import pcm

RATE_HZ = 16_000
LEAST_BITS_PER_SECOND = 6_000  # what Opus is made for at the least
_LEAST_VERSION = (1, 5)
_MAX_PACKET_BYTES = 4_000
# of opus_defines.h
_VOIP, _VOICE = 2_048, 3_001
_SET_BITRATE, _SET_VBR, _SET_COMPLEXITY = 4_002, 4_006, 4_010
_SET_INBAND_FEC, _SET_EXPECTED_LOSS, _SET_SIGNAL, _GET_LOOKAHEAD = 4_012, 4_014, 4_024, 4_027


class OpusSetting(NamedTuple):
    """How an encoder is set.

    Attributes:
        bits_per_second: Of the packets, as asked for; the rate varies.
        packet_seconds: 0.02, 0.04 or 0.06.
        has_copies: In-band FEC: a packet may carry a coarser copy of the one before it.
        expected_loss: Share of the packets; without it, Opus makes no copies.
    """

    bits_per_second: int
    packet_seconds: float
    has_copies: bool
    expected_loss: float

    @property
    def packet_samples(self) -> int:
        """Samples that a packet codes."""
        return round(self.packet_seconds * RATE_HZ)


class OpusLibrary:
    """The coder and decoder of libopus, at 16 kHz in one channel.

    Attributes:
        version: As the library tells it.
        lookahead_samples: By which its output lags behind, beyond the packet.
    """

    def __init__(self, path: str | Path) -> None:
        """Load a shared library.

        Raises:
            ConfigError: If it is no libopus, or one before 1.5.
        """
        try:
            self._library: Any = ctypes.CDLL(str(path))
            self._library.opus_get_version_string.restype = ctypes.c_char_p
            self.version = self._library.opus_get_version_string().decode()
        except (OSError, AttributeError) as error:
            raise ConfigError(f"{path} is no libopus ({error}).") from error
        numbers = re.search(r"(\d+)\.(\d+)", self.version)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < _LEAST_VERSION:
            raise ConfigError(f"{path} is {self.version}; Opus 1.5 or newer is needed.")
        for name in ("opus_encoder_create", "opus_decoder_create"):
            getattr(self._library, name).restype = ctypes.c_void_p
        for name in ("opus_encoder_ctl", "opus_decoder_ctl"):
            # what follows is variadic, which some processors pass in other ways
            getattr(self._library, name).argtypes = [ctypes.c_void_p, ctypes.c_int]
        encoder = self._encoder(OpusSetting(12_000, 0.02, False, 0.0))
        found = ctypes.c_int()
        self._control(encoder, _GET_LOOKAHEAD, ctypes.byref(found))
        self._library.opus_encoder_destroy(encoder)
        self.lookahead_samples = found.value

    @classmethod
    def find(cls) -> OpusLibrary:
        """The library inside PyAV's package.

        Raises:
            MissingExtra: If PyAV is not installed, or was built without a libopus of its own, or brings one
                before 1.5.
        """
        av = require("av", "Opus packet by packet")
        package = Path(str(av.__file__)).parent
        folders = (package.parent / "av.libs", package / ".dylibs", package)
        for path in (path for folder in folders for path in sorted(folder.glob("*opus*"))):
            if path.is_file():
                try:
                    return cls(path)
                except ConfigError:
                    continue
        raise MissingExtra(
            "Opus packet by packet needs libopus 1.5 or newer, which PyAV's wheels bring and the PyAV here "
            f"does not; in a checkout run `{EXTRA}`."
        )

    def encode(self, waveform: Tensor, setting: OpusSetting) -> list[bytes]:
        """Packets of float `[L]` at 16 kHz; the last one is filled up, what the decoder lags behind included.

        Raises:
            ConfigError: If Opus refuses the setting.
        """
        size = setting.packet_samples
        count = -(-(len(waveform) + self.lookahead_samples) // size)
        samples = np.zeros(count * size, np.int16)
        samples[: len(waveform)] = pcm(waveform)
        buffer = ctypes.create_string_buffer(_MAX_PACKET_BYTES)
        encoder = self._encoder(setting)
        packets = []
        try:
            for frame in samples.reshape(count, size):
                speech = np.ascontiguousarray(frame).ctypes.data_as(ctypes.c_void_p)
                length = self._library.opus_encode(
                    encoder, speech, size, buffer, ctypes.c_int32(_MAX_PACKET_BYTES)
                )
                packets.append(buffer.raw[: self._checked(length)])
        finally:
            self._library.opus_encoder_destroy(encoder)
        return packets

    def decode(
        self,
        packets: Sequence[bytes],
        is_lost: Sequence[bool],
        setting: OpusSetting,
        num_samples: int,
    ) -> Tensor:
        """What a receiver hears, float32 `[num_samples]`, under the original.

        A lost packet is decoded from the copy in the next one, where copies are sent and the next one came;
        else the decoder conceals it.

        Raises:
            ConfigError: If Opus refuses a packet.
        """
        size = setting.packet_samples
        error = ctypes.c_int()
        decoder = ctypes.c_void_p(
            self._library.opus_decoder_create(RATE_HZ, 1, ctypes.byref(error))
        )
        self._checked(error.value)
        heard = np.zeros((len(packets), size), np.int16)
        try:
            for number, packet in enumerate(packets):
                data: bytes | None = packet
                from_copy = 0
                if is_lost[number]:
                    has_next = number + 1 < len(packets) and not is_lost[number + 1]
                    from_copy = int(setting.has_copies and has_next)
                    data = packets[number + 1] if from_copy else None
                played = self._library.opus_decode(
                    decoder,
                    data,
                    ctypes.c_int32(len(data or b"")),
                    heard[number].ctypes.data_as(ctypes.c_void_p),
                    size,
                    from_copy,
                )
                self._checked(played)
        finally:
            self._library.opus_decoder_destroy(decoder)
        samples = torch.from_numpy(heard.reshape(-1).astype(np.float32) / 2**15)
        return samples[self.lookahead_samples :][:num_samples]

    def _encoder(self, setting: OpusSetting) -> ctypes.c_void_p:
        error = ctypes.c_int()
        encoder = ctypes.c_void_p(
            self._library.opus_encoder_create(RATE_HZ, 1, _VOIP, ctypes.byref(error))
        )
        self._checked(error.value)
        for request, value in (
            (_SET_BITRATE, setting.bits_per_second),
            (_SET_VBR, 1),
            (_SET_COMPLEXITY, 10),
            (_SET_SIGNAL, _VOICE),
            (_SET_INBAND_FEC, int(setting.has_copies)),
            (_SET_EXPECTED_LOSS, round(100 * setting.expected_loss)),
        ):
            self._control(encoder, request, ctypes.c_int32(value))
        return encoder

    def _control(self, encoder: ctypes.c_void_p, request: int, value: Any) -> None:
        self._checked(self._library.opus_encoder_ctl(encoder, request, value))

    def _checked(self, result: int) -> int:
        if result < 0:
            self._library.opus_strerror.restype = ctypes.c_char_p
            reason = self._library.opus_strerror(result).decode()
            raise ConfigError(f"{self.version} answered: {reason}.")
        return result
