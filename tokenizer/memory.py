"""How the process keeps memory that tensors gave back."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks, for programmes whose tensors come and go at one size.

    Faulting in fresh pages for every tensor cost a small model a fifth of its speed, in training as in
    coding. A setting of the whole process, hence for commands, not for importing.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    except (OSError, AttributeError):  # another C library, which has its own ways
        return


def return_freed_memory() -> None:
    """Give pages that hold nothing back to the system, after `keep_freed_memory`.

    Batches of many shapes leave holes that the next shape does not fit: a training kept 10 GB after half an
    hour, of which it used two. To be called now and then; the pages that are used again are faulted in anew.
    """
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
