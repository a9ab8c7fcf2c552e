"""Times passes of a system and reads its peak memory, in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from speechlm.benchmarks.systems import LOADERS, System, speech_like

if TYPE_CHECKING:
    from torch import Tensor

# Imported once, before the processes part: five times would take longer than the quick rows.
_PRELOADED = [
    "speechlm.tokenizer.codec",
    "transformers.models.encodec.modeling_encodec",
    "transformers.models.mimi.modeling_mimi",
    "transformers.models.dac.modeling_dac",
]
_MEGABYTE = 1_000_000


class Pass(NamedTuple):
    """What one pass took: seconds on the clock and of processor, and the process's peak in megabytes."""

    seconds: float
    processor_seconds: float
    peak_rss_mb: float


class ProcessEnded(Exception):
    """The process of a system is gone: out of memory, or it has said why on stderr."""


class Measured(Protocol):
    """A system that can be timed, here or in another process."""

    def measure(self, task: str, audio_s: float, batch: int) -> Pass:
        """Time one pass."""
        ...


class Meter:
    """Times passes of one system in this process.

    Args:
        system: What to time.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._ready: tuple[tuple[float, int], Tensor, Any] | None = None

    def measure(self, task: str, audio_s: float, batch: int) -> Pass:
        """Time one pass; signal and codes are made before the clock starts.

        Args:
            task: `encode` or `decode`.
            audio_s: Length of every item, in seconds.
            batch: Number of items.
        """
        import torch

        with torch.inference_mode():
            waveforms, codes = self._prepare(audio_s, batch, task == "decode")
            _reset_peak()
            start, processor_start = time.perf_counter(), time.process_time()
            result = (
                self._system.encode(waveforms) if task == "encode" else self._system.decode(codes)
            )
            seconds = time.perf_counter() - start
            processor_seconds = time.process_time() - processor_start
        peak = _peak_rss_mb()
        if task == "encode":
            self._ready = ((audio_s, batch), waveforms, result)
        return Pass(seconds, processor_seconds, peak)

    def _prepare(self, audio_s: float, batch: int, need_codes: bool) -> tuple[Tensor, Any]:
        if self._ready is None or self._ready[0] != (audio_s, batch):
            rate = self._system.sampling_rate
            waveforms = speech_like(round(audio_s * rate), batch, rate)
            self._ready = ((audio_s, batch), waveforms, None)
        key, waveforms, codes = self._ready
        if need_codes and codes is None:
            codes = self._system.encode(waveforms)
            self._ready = (key, waveforms, codes)
        return waveforms, codes


def _reset_peak() -> None:
    """Let the kernel count the peak anew; where it cannot (not Linux), peaks are the process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_rss_mb() -> float:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / _MEGABYTE
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / _MEGABYTE


def free_memory_mb() -> float:
    """Megabytes that programs may still take; unbounded where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    line = next(line for line in lines if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024 / _MEGABYTE


def _serve(connection: Connection, name: str, threads: int) -> None:
    """Load a system, say what it is, and time passes until the other end hangs up."""
    load = LOADERS[name]
    import torch

    from speechlm.tokenizer.memory import keep_freed_memory

    keep_freed_memory()  # as the command line does, for every system alike
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    system = load()
    connection.send(system.note)
    meter = Meter(system)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(meter.measure(*request))


class MeterProcess:
    """A `Meter` in a fresh process, from `with` to the end of the block.

    Args:
        name: A key of `LOADERS`.
        threads: Threads that torch may use there.
    """

    def __init__(self, name: str, threads: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        self._connection, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, name, threads), daemon=True)
        self._process.start()
        far_end.close()
        self._note: str | None = None

    @property
    def note(self) -> str:
        """What the system is; waits until it is loaded.

        Raises:
            ProcessEnded: If the process is gone.
        """
        return self._load()

    def measure(self, task: str, audio_s: float, batch: int) -> Pass:
        """As in `Meter`.

        Raises:
            ProcessEnded: If the process is gone.
        """
        self._load()
        return Pass(*self._exchange((task, audio_s, batch)))

    def _load(self) -> str:
        if self._note is None:
            self._note = str(self._exchange())
        return self._note

    def _exchange(self, request: Any = None) -> Any:
        try:
            if request is not None:
                self._connection.send(request)
            return self._connection.recv()
        except (EOFError, OSError):
            self._process.join()
            raise ProcessEnded(f"its process ended with {self._process.exitcode}") from None

    def __enter__(self) -> MeterProcess:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        if any(exception):  # it may be in the middle of a long pass
            self._process.terminate()
        self._process.join()
