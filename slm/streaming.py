"""Codes and sound while they are generated: autoregressive frames, the other books in windows, samples.

Without a non-autoregressive model the stream equals the whole. With one, its passes see a window of
the utterance: frames to come are waited for a little, and frames long past are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..tokenizer.codec import CodecModel
from ..tokenizer.stream import CodecStream
from .autoregressive import AutoregressiveModel
from .frame_loop import FrameLoop
from .generate import complete, require_fit
from .length import LengthBounds
from .nonautoregressive import NonAutoregressiveModel
from .prompt import Voice
from .sampling import SamplingConfig
from .speech import SoftEdges, pause_codes

FIRST_FRAMES = 5  # of the first piece; the next ones grow twofold up to `CHUNK_FRAMES`
CHUNK_FRAMES = 25
FRAMES_AHEAD = 8  # that a non-autoregressive window sees past the frames it gives
FRAMES_BEHIND = 75  # and before them, prompt aside


def stream_codes(
    ar: AutoregressiveModel,
    nar: NonAutoregressiveModel | None,
    text: Tensor,
    voice: Voice,
    *,
    sampling: SamplingConfig | None = None,
    max_frames: int | None = None,
    generator: torch.Generator | None = None,
    silent_codes: Tensor | None = None,
    first_frames: int = FIRST_FRAMES,
    chunk_frames: int = CHUNK_FRAMES,
) -> Iterator[Tensor]:
    """One utterance in pieces, each as soon as its frames are there.

    Args:
        ar: As in `generate_batch`.
        nar: As in `generate_batch`.
        text: int64 `[S]`.
        voice: The prompt.
        sampling: As in `generate_batch`.
        max_frames: As in `generate_batch`.
        generator: As in `generate_batch`.
        silent_codes: As in `FrameLoop`.
        first_frames: Frames of the first piece; with `nar` it waits for `FRAMES_AHEAD` more.
        chunk_frames: Most frames of a piece.

    Yields:
        int64 `[k, m]`.
    """
    bounds = LengthBounds.of(ar, text, max_frames)
    sources = None if generator is None else [generator]
    loop = FrameLoop(
        ar, [text], [voice], [bounds], sampling or SamplingConfig(), sources, silent_codes
    )
    ahead = 0 if nar is None else FRAMES_AHEAD
    # How much is left out of the pause before the first sound is known when that comes.
    while not loop.is_over and loop.waits()[0]:
        loop.step()
    size, done = max(1, first_frames), int(loop.lead()[0])
    while not loop.is_over or done < int(loop.num_frames[0]):
        while not loop.is_over and loop.frame < done + size + ahead:
            loop.step()
        written = int(loop.num_frames[0])
        end = written if loop.is_over else written - ahead
        if nar is None:
            piece = loop.codes[0, done:end].T
        else:
            piece = _window(nar, text, voice, loop, done, end, written)
        yield piece.cpu()
        size, done = min(2 * size, chunk_frames), end


def _window(
    nar: NonAutoregressiveModel,
    text: Tensor,
    voice: Voice,
    loop: FrameLoop,
    start: int,
    end: int,
    stop: int,
) -> Tensor:
    """All books of frames `start` to `end`, from what stands up to frame `stop`: `[K, end - start]`."""
    if start == end:
        return torch.zeros(nar.config.num_codebooks, 0, dtype=torch.int64)
    # A pointer says where in the text the window is; without one it has to begin at its beginning.
    first = max(int(loop.lead()[0]), start - FRAMES_BEHIND) if nar.uses_pointer else 0
    pointer = loop.pointers[0, first:stop]
    symbol = int(pointer[0]) if nar.uses_pointer else 0
    codes = loop.codes[0, first:stop].T
    filled = complete(nar, [text[symbol:]], [voice], [codes], [pointer - symbol])[0]
    return filled[:, start - first : end - first]


def stream_speech(
    codec: CodecModel,
    ar: AutoregressiveModel,
    nar: NonAutoregressiveModel | None,
    texts: Sequence[Tensor],
    voice: Voice,
    *,
    sampling: SamplingConfig,
    max_frames: int | None,
    generators: Sequence[torch.Generator],
    silent_codes: Tensor | None,
    first_frames: int = FIRST_FRAMES,
    chunk_frames: int = CHUNK_FRAMES,
) -> Iterator[Tensor]:
    """Sentences of one voice as waveform pieces; arguments as in `stream_codes`, one text a sentence.

    Yields:
        float32 `[n]`, n above 0.
    """
    require_fit(ar, nar, texts, [voice] * len(texts))
    receiver, edges = CodecStream(codec), SoftEdges(codec.config.sampling_rate)
    first: Tensor | None = None
    for text, generator in zip(texts, generators, strict=True):
        if first is not None:
            pause = pause_codes(first, codec.config.frame_rate_hz)
            yield from _sounding(edges.push(receiver.pull(pause)))
            first = None
        for piece in stream_codes(
            ar,
            nar,
            text,
            voice,
            sampling=sampling,
            max_frames=max_frames,
            generator=generator,
            silent_codes=silent_codes,
            first_frames=first_frames,
            chunk_frames=chunk_frames,
        ):
            if first is None and piece.shape[1]:
                first = piece[:, 0]
            yield from _sounding(edges.push(receiver.pull(piece)))
    yield from _sounding(torch.cat((edges.push(receiver.drain()), edges.flush())))


def _sounding(samples: Tensor) -> Iterator[Tensor]:
    if len(samples):
        yield samples
