"""Files that exist whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .paths import require_target

_SHOWN = 40  # characters of the name in the temporary one, which must not grow past the limit


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` under a temporary name beside `path`, flush it to disk, then rename.

    A reader, or a run killed at any moment, sees the old file or the new one, never a part.

    Raises:
        OSError: If the folder is missing or the file cannot be written; it names one of the two,
            never the temporary file.
    """
    target = require_target(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:_SHOWN]}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(target)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(target), None
        raise
