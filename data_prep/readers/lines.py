"""Lines of the lists that corpora bring: bounded, and damaged ones told instead of raised."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .entry import LIST, Rejection

MAX_LINE_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Line:
    """One line of a list that is not blank.

    Attributes:
        where: File name and line number, for messages.
        text: The line without its end; bytes that are not UTF-8 stand as lone surrogates, as in
            file names, so that `clean_text` finds them in a transcript and paths survive.
    """

    where: str
    text: str


def read_lines(path: Path) -> Iterator[Line | Rejection]:
    """Yield every line that is not blank; one beyond 1 MiB or a list that cannot be read is a rejection."""
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                where = f"{path.name}:{number}"
                if len(raw) > MAX_LINE_BYTES:
                    while raw and not raw.endswith(b"\n"):
                        raw = file.readline(MAX_LINE_BYTES)
                    yield Rejection(
                        where, "", f"The line {where} is longer than 1 MiB; restore the list."
                    )
                    continue
                raw = raw.removeprefix(_BOM) if number == 1 else raw
                if raw.strip():
                    yield Line(where, raw.decode("utf-8", "surrogateescape").rstrip("\r\n"))
    except OSError as error:
        yield Rejection(
            path.name,
            str(path),
            f"{path} cannot be read ({error.strerror}); restore it or check its permissions.",
            LIST,
        )
