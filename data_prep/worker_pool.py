"""Worker processes: how a pool of them starts, and how it surely ends.

`concurrent.futures` does the rest. Three things it leaves open: workers of a parent that was killed wait for
jobs for ever, a pool that broke waits for a worker that was just being started, and one that breaks while it
starts workers may say so as a closed file.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any


def start_workers(
    count: int, begin: Callable[..., None], arguments: tuple[Any, ...], preload: list[str]
) -> ProcessPoolExecutor:
    """A pool whose processes share the imports of `preload` and end with this one.

    Args:
        count: Processes.
        begin: Called once in each, with `arguments`.
        arguments: Of `begin`.
        preload: Modules that are imported once for all, where the system can share them.
    """
    # Never a fork of this process: torch's threads and CUDA would not survive it
    has_server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if has_server else "spawn")
    if has_server:
        context.set_forkserver_preload([*preload, __name__])
    return _Workers(count, context, _begin, (begin, arguments))


def end_workers(strangers: set[BaseProcess]) -> None:
    """End all children of this process but `strangers`, those that were there before the pools."""
    for child in set(multiprocessing.active_children()) - strangers:
        child.terminate()


class _Workers(ProcessPoolExecutor):
    """A pool that says in one way that it broke."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        try:
            return super().submit(fn, *args, **kwargs)
        except OSError as error:
            # The pool closes its pipes when a worker dies, also under one that is about to be given them;
            # closed connections raise without a number
            if error.errno not in (errno.EBADF, None):
                raise
            raise BrokenProcessPool("A worker died while others were being started.") from error


def _begin(begin: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    begin(*arguments)


def _follow(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
