"""Adding up the gradients of a block's parameters for CUDA cards, in Triton.

The passes back have hundreds of programs each, and every program leaves the sums over its own rows. One launch adds up all of
them, in an order that shapes alone decide.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def add_up(
    columns, slopes, num_0, num_1, num_2, num_3, bias_0, slope_1, weight_1, bias_1, taps, bias_2, slope_2, weight_2, bias_3,
    NUM_CHANNELS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
):  # fmt: skip
    """The gradients of a block's parameters; a program adds up some channels of one of them, or one slope.

    The passes have had ``num_0`` to ``num_3`` programs. What each has left, in rows of channels: of normalise_back_sums weight_2,
    bias_3; of normalise_back bias_2; of convolve_back_sums weight_1, bias_1 and three taps; of convolve_back bias_0. And in
    ``slopes``, a number each: of normalise_back slope_2, of convolve_back slope_1.
    """
    number = tl.program_id(0)
    if number < 9:
        # Where the rows of a parameter begin, how many there are, and how far apart.
        first, count, step = number, num_0, 2
        if number == 2:
            first, count, step = 2 * num_0, num_1, 1
        if (number > 2) & (number < 8):
            first, count, step = 2 * num_0 + num_1 + number - 3, num_2, 5
        if number == 8:
            first, count, step = 2 * num_0 + num_1 + 5 * num_2, num_3, 1
        channels = tl.program_id(1) * BLOCK_CHANNELS + tl.arange(0, BLOCK_CHANNELS)
        inside = channels < NUM_CHANNELS
        found = _column(columns, first, count, step, channels, inside, NUM_CHANNELS, BLOCK_ROWS, BLOCK_CHANNELS)
        _store_if(number == 0, weight_2 + channels, found, inside)
        _store_if(number == 1, bias_3 + channels, found, inside)
        _store_if(number == 2, bias_2 + channels, found, inside)
        _store_if(number == 3, weight_1 + channels, found, inside)
        _store_if(number == 4, bias_1 + channels, found, inside)
        _store_if((number > 4) & (number < 8), taps + (number - 5) * NUM_CHANNELS + channels, found, inside)
        _store_if(number == 8, bias_0 + channels, found, inside)
    elif tl.program_id(1) == 0:
        if number == 9:
            tl.store(slope_2, _slope(slopes, num_1, BLOCK_ROWS))
        else:
            tl.store(slope_1, _slope(slopes + num_1, num_3, BLOCK_ROWS))


@triton.jit
def _column(
    columns, first, count, step, channels, inside,
    NUM_CHANNELS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr,
):  # fmt: skip
    """The sums over ``count`` rows of some channels."""
    total = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    for begin in range(0, count, BLOCK_ROWS):
        rows = begin + tl.arange(0, BLOCK_ROWS)
        places = (first + rows * step).to(tl.int64)[:, None] * NUM_CHANNELS + channels[None, :]
        total += tl.load(columns + places, mask=(rows < count)[:, None] & inside[None, :], other=0.0)
    return tl.sum(total, axis=0)


@triton.jit
def _slope(slopes, count, BLOCK_ROWS: tl.constexpr):
    """The sum of so many numbers."""
    total = tl.zeros((BLOCK_ROWS,), tl.float32)
    for begin in range(0, count, BLOCK_ROWS):
        rows = begin + tl.arange(0, BLOCK_ROWS)
        total += tl.load(slopes + rows, mask=rows < count, other=0.0)
    return tl.sum(total, axis=0)


@triton.jit
def _store_if(wanted, places, values, inside):
    tl.store(places, values, mask=inside & wanted)
