"""Asked to stop, a run ends at a whole step: Ctrl-C, and the SIGTERM of a scheduler before it kills."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class StopRequest:
    """Whether somebody asked this process to stop."""

    asked: bool = False


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Inside, the first SIGINT and the first SIGTERM only ask; another of its kind acts as it did before.

    A signal that the process ignores (`nohup`, background jobs) stays ignored, and outside of the main
    thread, where Python takes no handlers, nothing changes. torchrun sends its ranks SIGTERM after the
    SIGINT that the terminal sent them: that is why each kind counts for itself.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    process = os.getpid()

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        request.asked = True
        if os.getpid() == process:  # loader workers inherit this, and Ctrl-C reaches them too
            # not `print`: the signal may come while a line is being written
            os.write(2, b"\nStopping after this step; once more stops at once and keeps less.\n")

    taken = [number for number, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    for number in taken:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number in taken:
            signal.signal(number, before[number])
