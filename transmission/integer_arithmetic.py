"""Arithmetic of the profile `integer-1`: a network's operations on integers, the same on every machine.

Numbers are fixed-point, `FRACTION` = 12 bits behind the point, in int64. Nothing depends on an order of
sums: products of integers are summed in float64, whose every partial sum stays far below 2^53 and is
therefore exact whichever kernel computes it, with any number of threads. (float32 would be twice as
fast and hold 2^24 only, which int8 weights and 20-bit activations pass; and torch may be told to round
float32 products to bfloat16.) Exponentials come from a table made of integer square roots, so no
machine's mathematical library has a say either. Any change of a single result is a new profile.
"""

from __future__ import annotations

from functools import cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

FRACTION = 12
ONE = 1 << FRACTION
SCALE_BITS = 24  # of the multipliers that take a sum of products back to fixed point
LIMIT = 1 << 19  # what enters a product stays below it; 128 in fixed point
STREAM_LIMIT = 1 << 22  # the same for the residual stream, which enters norms only
LOG2_E = 94_548  # log2(e) with 16 bits behind the point
EXP_BITS = 30  # behind the point, of what `exp2` gives
_ROOT_BITS = 256
_SHARE_BITS = 20
_NORM_BITS = 40
# slm's NORM_EPS of 1e-6 in squares of fixed-point numbers
_NORM_EPS = 17


@cache
def _exp2_table() -> Integers:
    """2^(-i / 4096) for i from 0 to 4095, each floored at 30 bits behind the point."""
    root = 1 << (_ROOT_BITS - 1)  # a half
    for _ in range(FRACTION):
        root = isqrt(root << _ROOT_BITS)
    values, value = [], 1 << _ROOT_BITS
    for _ in range(ONE):
        values.append(value >> (_ROOT_BITS - EXP_BITS))
        value = value * root >> _ROOT_BITS
    table = np.array(values, dtype=np.int64)
    table.setflags(write=False)
    return table


def exp2(exponents: Integers) -> Integers:
    """2 to the power of minus a fixed-point number.

    Args:
        exponents: int64, none negative.

    Returns:
        int64 of the same shape, `EXP_BITS` bits behind the point, from 1 down to 0.
    """
    whole = np.minimum(exponents >> FRACTION, EXP_BITS + 1)
    return _exp2_table()[exponents & (ONE - 1)] >> whole


def silu(x: Integers) -> Integers:
    """Multiply by the logistic function, fixed-point to fixed-point."""
    falling = exp2(np.abs(x) * LOG2_E >> 16)
    one = 1 << EXP_BITS
    share = (np.where(x >= 0, one, falling) << _SHARE_BITS) // (one + falling)
    return (x * share + (1 << (_SHARE_BITS - 1))) >> _SHARE_BITS


def rms_norm(x: Integers) -> Integers:
    """Divide each last axis of a fixed-point array by its root mean square.

    Args:
        x: int64 `[…, D]`, within `STREAM_LIMIT`.

    Returns:
        int64 of the same shape; no value passes sqrt(D).
    """
    size = x.shape[-1]
    sums = (x * x).sum(-1)
    factors = [
        isqrt((size << 2 * _NORM_BITS) // (total + size * _NORM_EPS))
        for total in sums.reshape(-1).tolist()
    ]
    factor = np.array(factors, dtype=np.int64).reshape(*x.shape[:-1], 1)
    shift = _NORM_BITS - FRACTION
    return (x * factor + (1 << (shift - 1))) >> shift


def limited(x: Integers, limit: int = LIMIT) -> Integers:
    """Hold numbers within a limit, so that whatever weights say no later sum can overflow."""
    # np.clip takes three times as long on a few hundred numbers
    return np.minimum(np.maximum(x, -limit), limit)


class IntegerLinear:
    """A linear layer with int8 weights and a multiplier for each output.

    Args:
        weight: int8 `[D_out, D_in]`.
        scale: int32 `[D_out]`, weight times scale is the true weight with `SCALE_BITS` behind the
            point; 0 to 2^24 - 1.
        bias: int32 `[D_out]`, fixed-point, or None.
    """

    def __init__(
        self,
        weight: NDArray[np.int8],
        scale: NDArray[np.int32],
        bias: NDArray[np.int32] | None = None,
    ) -> None:
        self._weight = weight.astype(np.float64)
        self._scale = scale.astype(np.int64)
        self._bias = None if bias is None else bias.astype(np.int64)

    def __call__(self, x: Integers) -> Integers:
        """Map fixed-point `[…, D_in]`, within `LIMIT`, to `[…, D_out]`, also within it."""
        # 2^19 times 2^7 over at most 2^10 inputs: 2^36, and with the scale 2^60
        sums = (x.astype(np.float64) @ self._weight.T).astype(np.int64)
        out = (sums * self._scale + (1 << (SCALE_BITS - 1))) >> SCALE_BITS
        if self._bias is not None:
            out = out + self._bias
        return limited(out)
