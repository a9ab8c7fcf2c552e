"""Packets of a tiny codec, and a receiver whose frames can be looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from speechlm.tokenizer.codec import CodecModel
from speechlm.transmission.link.playback import DeferredPlayback
from speechlm.transmission.link.profile import LinkProfile
from speechlm.transmission.link.receiver import Receiver
from speechlm.transmission.link.sender import Sender

HOP = 320


def random_codes(num_frames: int, seed: int = 0, books: int = 6, size: int = 16) -> torch.Tensor:
    """Codes `[K, T]` of a tiny codec."""
    return torch.randint(
        0, size, (books, num_frames), generator=torch.Generator().manual_seed(seed)
    )


def packets_of(
    codec: CodecModel, codes: torch.Tensor, profile: LinkProfile, **options: Any
) -> list[bytes]:
    """All packets of codes, in the order of sending."""
    sender = Sender(codec, profile, **{"session": 7, **options})
    return sender.push_codes(codes) + sender.flush()


class Listener:
    """A receiver that decodes nothing, so that tests see frames in place of samples."""

    def __init__(self, codec: CodecModel, profile: LinkProfile, **options: Any) -> None:
        self.codec = codec
        self.playback = DeferredPlayback(codec)
        self.receiver = Receiver(codec, profile, playback=self.playback, **options)

    def play(self, packets: Iterable[bytes], num_frames: int) -> torch.Tensor:
        """Latents `[T, D]` of the stream's frames when all packets come before the first is played."""
        for packet in packets:
            self.receiver.push(packet, 0.0)
        self.receiver.pull((num_frames + 200) * HOP)
        latents = [torch.zeros(self.receiver.first_frame, self.codec.config.latent_size)]
        return torch.cat([*latents, *self.playback._latents])[:num_frames]


def decoded(codec: CodecModel, codes: torch.Tensor) -> torch.Tensor:
    """Latents `[T, D]` of codes `[k, T]`."""
    return codec.quantizer.decode(codes[None])[0]
