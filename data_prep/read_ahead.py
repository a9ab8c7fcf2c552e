"""Reading ahead: recordings are decoded and resampled in threads while the codec works.

soundfile, soxr and torch let go of Python's lock while they compute, so a thread is enough to hide
the reading; how much waits decoded is bounded in seconds of audio, not in files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from ..errors import UnsupportedAudio
from ..tokenizer.audio import MAX_SECONDS, read_audio
from .manifest import Utterance

# How far a recording may outlast what its manifest says: containers round, silence gets appended.
# What is longer is another recording, and might be hours where seconds were planned for.
_LONGEST_SHARE, _LONGEST_EXTRA_SECONDS = 1.5, 1.0


def batches_by_length(seconds: Sequence[float], batch_seconds: float) -> list[list[int]]:
    """Group indices of similar duration so that each group, padded, lasts at most `batch_seconds`.

    An utterance that is longer than that is a group of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(seconds)), key=lambda i: (-seconds[i], i)):
        # Longest first: the first of a batch is what all others are padded to
        if batches and (len(batches[-1]) + 1) * seconds[batches[-1][0]] <= batch_seconds:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def read_utterance(utterance: Utterance, sampling_rate: int) -> Tensor | UnsupportedAudio:
    """The waveform `[L]` of an utterance, or why it cannot be had."""
    longest = utterance.seconds * _LONGEST_SHARE + _LONGEST_EXTRA_SECONDS
    try:
        return read_audio(utterance.audio, sampling_rate, min(longest, MAX_SECONDS))
    except UnsupportedAudio as error:
        return error
    except OSError as error:
        return UnsupportedAudio(f"{utterance.audio} cannot be opened ({error.strerror}).")


def read_ahead(
    batches: Sequence[Sequence[Utterance]],
    sampling_rate: int,
    ahead_seconds: float,
    num_readers: int = 1,
) -> Iterator[list[Tensor | UnsupportedAudio]]:
    """Yield the waveforms of each batch in turn, while the following ones are being read.

    Args:
        batches: Utterances that are wanted together.
        sampling_rate: In Hz, of the waveforms.
        ahead_seconds: Audio that may be in memory at once, the batch in use included; one batch
            beside that in use is always read.
        num_readers: Threads that read.
    """
    waiting: deque[tuple[list[Future[Tensor | UnsupportedAudio]], float]] = deque()
    coming = deque(batches)
    held = 0.0
    pool = ThreadPoolExecutor(num_readers, thread_name_prefix="read")
    try:
        while coming or waiting:
            while coming:
                seconds = sum(utterance.seconds for utterance in coming[0])
                if len(waiting) > 1 and held + seconds > ahead_seconds:
                    break
                batch = coming.popleft()
                waiting.append(
                    ([pool.submit(read_utterance, u, sampling_rate) for u in batch], seconds)
                )
                held += seconds
            futures, seconds = waiting.popleft()
            found = [future.result() for future in futures]
            futures.clear()  # they hold the waveforms too
            yield found
            del found
            held -= seconds
    finally:
        pool.shutdown(cancel_futures=True)
