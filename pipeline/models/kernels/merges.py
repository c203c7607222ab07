"""Merging the statistics of frames for CUDA cards, in Triton: what ``norms.py`` does, and its gradient.

A program merges the frames of one batch member, ``BLOCK_FRAMES`` at a time, in float64. It reads and writes a few float32 numbers
of each frame, a hundredth of the activations.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def merge(
    mean, variance, scale, shift, ends, num_frames, eps,
    KIND: tl.constexpr, PADDED: tl.constexpr, BLOCK_FRAMES: tl.constexpr,
):  # fmt: skip
    """From each frame's mean and variance, the scale and shift that normalise it; a program merges one batch member.

    Where members are PADDED, theirs end after so many frames as ``ends`` says, and what follows is normalised to zero.
    """
    first_row = tl.program_id(0).to(tl.int64) * num_frames
    num_real = num_frames
    if PADDED:
        num_real = tl.load(ends + tl.program_id(0)).to(tl.int32)
    # Means are taken relative to the first frame's: any constant gives the same result, a near one keeps the digits.
    first = tl.load(mean + first_row).to(tl.float64)
    sum_mean = tl.zeros((), tl.float64)
    sum_square = tl.zeros((), tl.float64)
    if KIND == "global":
        for begin in range(0, num_frames, BLOCK_FRAMES):
            rows, frames, there, offset, v = _frames(mean, variance, first_row, first, begin, num_real, BLOCK_FRAMES)
            sum_mean += tl.sum(offset, axis=0)
        middle = sum_mean / num_real
        for begin in range(0, num_frames, BLOCK_FRAMES):
            rows, frames, there, offset, v = _frames(mean, variance, first_row, first, begin, num_real, BLOCK_FRAMES)
            sum_square += tl.sum(tl.where(there, v + (offset - middle) * (offset - middle), 0.0), axis=0)
        root = 1.0 / tl.sqrt(sum_square / num_real + eps)
        for begin in range(0, num_frames, BLOCK_FRAMES):
            rows, frames, there, offset, v = _frames(mean, variance, first_row, first, begin, num_real, BLOCK_FRAMES)
            _store(scale, shift, rows, frames, there, tl.zeros_like(offset) + root, (offset - middle) * root, num_frames, PADDED)
    else:
        for begin in range(0, num_frames, BLOCK_FRAMES):
            rows, frames, there, offset, v = _frames(mean, variance, first_row, first, begin, num_real, BLOCK_FRAMES)
            if KIND == "cumulative":
                count = (frames + 1).to(tl.float64)
                so_far = sum_mean + tl.cumsum(offset, axis=0)
                squares = sum_square + tl.cumsum(v + offset * offset, axis=0)
                sum_mean += tl.sum(offset, axis=0)
                sum_square += tl.sum(v + offset * offset, axis=0)
                centre = so_far / count
                v = squares / count - centre * centre
                v = tl.where(v > 0.0, v, 0.0)
            else:
                centre = offset
            root = 1.0 / tl.sqrt(v + eps)
            _store(scale, shift, rows, frames, there, root, (offset - centre) * root, num_frames, PADDED)


@triton.jit
def _store(scale, shift, rows, frames, there, root, moved, num_frames, PADDED: tl.constexpr):
    """Write some frames' scale and shift; zeros in padding."""
    if PADDED:
        root = tl.where(there, root, 0.0)
        moved = tl.where(there, moved, 0.0)
        there = frames < num_frames
    tl.store(scale + rows, root.to(tl.float32), mask=there)
    tl.store(shift + rows, moved.to(tl.float32), mask=there)


@triton.jit
def _frames(mean, variance, first_row, first, begin, num_frames, BLOCK_FRAMES: tl.constexpr):
    """Some frames' rows, and their means, relative to the first frame's, and variances; zeros beyond the last."""
    frames = begin + tl.arange(0, BLOCK_FRAMES)
    rows = first_row + frames
    there = frames < num_frames
    offset = tl.where(there, tl.load(mean + rows, mask=there, other=0.0).to(tl.float64) - first, 0.0)
    return rows, frames, there, offset, tl.load(variance + rows, mask=there, other=0.0).to(tl.float64)


@triton.jit
def merge_back(
    mean, scale, shift, total, product, constant, linear, num_frames,
    NUM_CHANNELS: tl.constexpr, KIND: tl.constexpr, BLOCK_FRAMES: tl.constexpr,
):  # fmt: skip
    """What the statistics add to the gradient of a frame's values: constant + linear (value - frame's mean).

    With a and b the gradients of a frame's merged mean M and variance V:  a = -scale total,  b = -product scale² / 2.
    A frame k of mean m and variance v takes part in M and V of the frames t that merge it, with a share w:
    gradient of v = sum w b,  of m = sum w (a + 2 b (m - M)).
    """
    first_row = tl.program_id(0).to(tl.int64) * num_frames
    first = tl.load(mean + first_row).to(tl.float64)
    sum_a = tl.zeros((), tl.float64)
    sum_b = tl.zeros((), tl.float64)
    blocks = tl.cdiv(num_frames, BLOCK_FRAMES)
    if KIND == "global":
        for block in range(0, blocks):
            rows, frames, there, m, centre, a, b = _gradients(
                mean, scale, shift, total, product, first_row, first, block * BLOCK_FRAMES, num_frames, BLOCK_FRAMES
            )
            sum_a += tl.sum(a, axis=0)
            sum_b += tl.sum(b, axis=0)
    for step in range(0, blocks):
        begin = (blocks - 1 - step) * BLOCK_FRAMES
        rows, frames, there, m, centre, a, b = _gradients(
            mean, scale, shift, total, product, first_row, first, begin, num_frames, BLOCK_FRAMES
        )
        if KIND == "global":
            grad_v = (sum_b + tl.zeros_like(b)) / num_frames
            grad_m = sum_a / num_frames + 2.0 * grad_v * (m - centre)
        elif KIND == "cumulative":
            count = (frames + 1).to(tl.float64)
            share_b = b / count
            share_a = a / count - 2.0 * share_b * centre
            grad_v = sum_b + tl.cumsum(share_b, axis=0, reverse=True)
            grad_m = sum_a + tl.cumsum(share_a, axis=0, reverse=True) + 2.0 * m * grad_v
            sum_a += tl.sum(share_a, axis=0)
            sum_b += tl.sum(share_b, axis=0)
        else:
            grad_v = b
            grad_m = a
        tl.store(constant + rows, (grad_m / NUM_CHANNELS).to(tl.float32), mask=there)
        tl.store(linear + rows, (2.0 * grad_v / NUM_CHANNELS).to(tl.float32), mask=there)


@triton.jit
def _gradients(mean, scale, shift, total, product, first_row, first, begin, num_frames, BLOCK_FRAMES: tl.constexpr):
    """Some frames' rows, their means and merged means (from the first frame's mean), and the gradients of what is merged."""
    frames = begin + tl.arange(0, BLOCK_FRAMES)
    rows = first_row + frames
    there = frames < num_frames
    s = tl.load(scale + rows, mask=there, other=1.0).to(tl.float64)
    m = tl.where(there, tl.load(mean + rows, mask=there, other=0.0).to(tl.float64) - first, 0.0)
    centre = m - tl.load(shift + rows, mask=there, other=0.0).to(tl.float64) / s
    a = -s * tl.load(total + rows, mask=there, other=0.0).to(tl.float64)
    b = -0.5 * s * s * tl.load(product + rows, mask=there, other=0.0).to(tl.float64)
    return rows, frames, there, m, centre, a, b
