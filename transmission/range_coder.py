"""A byte-oriented range coder over integer tables, after G. N. N. Martin, "Range encoding" (1979).

The interval is kept in 48 bits: its lower end `low`, and its width `range` of at least 2^40 before each
symbol, so that a table of 2^24 loses less than 2^-16 of the interval to rounding. A carry runs back into
bytes that are already written. The code ends with the fewest bytes after which a number inside the last
interval is named, read as if zeros followed; so equal symbols and tables give equal bytes, and only these.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptStream

_BITS = 48
_FULL = 1 << _BITS
_LEAST = 1 << (_BITS - 8)
_CODE_BYTES = _BITS // 8


class RangeEncoder:
    """Symbols to bytes."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._low, self._range = 0, _FULL

    def encode(self, start: int, frequency: int, total_bits: int) -> None:
        """Add a symbol.

        Args:
            start: Sum of the frequencies before the symbol.
            frequency: Its own, at least 1.
            total_bits: All frequencies sum to `2 ** total_bits`, at most 2^24.
        """
        unit = self._range >> total_bits
        self._low += unit * start
        self._range = unit * frequency
        if self._low >= _FULL:
            self._low -= _FULL
            self._carry()
        while self._range < _LEAST:
            self._bytes.append(self._low >> (_BITS - 8))
            self._low = (self._low << 8) & (_FULL - 1)
            self._range <<= 8

    def _carry(self) -> None:
        """Add one to the number written so far; it never grows past 1, so a byte below 255 is found."""
        place = len(self._bytes) - 1
        while self._bytes[place] == 255:
            self._bytes[place] = 0
            place -= 1
        self._bytes[place] += 1

    def finish(self) -> bytes:
        """The shortest bytes that decode to the symbols; the encoder is used up."""
        for kept in range(_CODE_BYTES + 1):
            unit = 1 << (_BITS - 8 * kept)
            number = -(-self._low // unit) * unit
            if number < self._low + self._range:
                break
        if number >= _FULL:
            number -= _FULL
            self._carry()
        # zeros at the end stay, so that the length tells how much information there was
        self._bytes += number.to_bytes(_CODE_BYTES, "big")[:kept]
        return bytes(self._bytes)


class RangeDecoder:
    """Bytes to symbols; past the end of the bytes it reads zeros.

    A range decoder alone notices few damages: any bytes decode to something. `decode` refuses what no encoder
    writes, the caller compares checksums and encodes again.

    Args:
        data: What `RangeEncoder.finish` gave.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self._place = data, _CODE_BYTES
        self._range = _FULL
        self._code = int.from_bytes(data[:_CODE_BYTES].ljust(_CODE_BYTES, b"\0"), "big")

    def decode(self, table: NDArray[np.int64], total_bits: int) -> int:
        """The next symbol.

        Args:
            table: Cumulative frequencies, int64 `[V + 1]`, from 0 to `2 ** total_bits`.
            total_bits: As it was encoded with.

        Raises:
            CorruptStream: If the code lies where no symbol is.
        """
        unit = self._range >> total_bits
        target = self._code // unit
        if target >> total_bits:
            raise CorruptStream("The coded bytes lead outside every symbol; the chunk is damaged.")
        symbol = int(np.searchsorted(table, target, side="right")) - 1
        start = int(table[symbol])
        self._code -= unit * start
        self._range = unit * (int(table[symbol + 1]) - start)
        while self._range < _LEAST:
            following = self._data[self._place] if self._place < len(self._data) else 0
            self._code = self._code << 8 | following
            self._range <<= 8
            self._place += 1
        return symbol
