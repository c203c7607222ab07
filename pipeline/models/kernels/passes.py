"""The passes over memory of a block's hidden activations, for CUDA cards, in Triton.

The same passes as ``cpu.cpp`` makes, between a block's two matrix products:

    p = prelu(y + bias_0, slope_1)                      first norm's statistics of p, frame by frame
    n = ((p - mean) scale + shift) weight_1 + bias_1    mean, scale and shift are a frame's own
    d = depthwise(n, taps) + bias_2                     written; second norm's statistics of q
    q = prelu(d, slope_2)
    m = ((q - mean) scale + shift) weight_2 + bias_3    written

Arrays are ``[row, channel]``, a row being a frame of a batch member; activations are stored in bfloat16 or float32, and all
arithmetic is in float32. A program holds whole rows in registers, ``BLOCK_ROWS`` at a time, and works through ``NUM_TILES`` such
tiles: rows that follow each other, or, around the convolution, the next frames of as many strands. It adds up the gradients of
per-channel parameters over its rows and writes them to a place of its own, so the same input gives the same bits.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _prelu(x, slope):
    return tl.where(x > 0, x, slope * x)


@triton.jit
def _tile(tile, num_rows, BLOCK_ROWS: tl.constexpr, NUM_TILES: tl.constexpr):
    """The rows of a program's tile, and which of them there are."""
    rows = (tl.program_id(0) * NUM_TILES + tile) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    return rows, rows < num_rows


@triton.jit
def _stored(array, rows, columns, there, NUM_CHANNELS: tl.constexpr):
    """Rows of an array as they are stored; zeros where a row is not there, and beyond the last channel."""
    inside = there[:, None] & (columns < NUM_CHANNELS)[None, :]
    return tl.load(array + rows.to(tl.int64)[:, None] * NUM_CHANNELS + columns[None, :], mask=inside, other=0.0)


@triton.jit
def _read(array, rows, columns, there, NUM_CHANNELS: tl.constexpr):
    """The same in float32."""
    return _stored(array, rows, columns, there, NUM_CHANNELS).to(tl.float32)


@triton.jit
def _write(array, rows, columns, there, values, NUM_CHANNELS: tl.constexpr):
    inside = there[:, None] & (columns < NUM_CHANNELS)[None, :]
    place = array + rows.to(tl.int64)[:, None] * NUM_CHANNELS + columns[None, :]
    tl.store(place, values.to(array.dtype.element_ty), mask=inside)


@triton.jit
def _stored_pair(one, two, rows, columns, there, NUM_CHANNELS: tl.constexpr):
    """The same rows of two arrays."""
    return _stored(one, rows, columns, there, NUM_CHANNELS), _stored(two, rows, columns, there, NUM_CHANNELS)


@triton.jit
def _per_channel(values, columns, NUM_CHANNELS: tl.constexpr):
    """A parameter, ``[1, channel]``."""
    return tl.load(values + columns, mask=columns < NUM_CHANNELS, other=0.0)[None, :]


@triton.jit
def _per_row(values, rows, there):
    """A number for every row, ``[row, 1]``."""
    return tl.load(values + rows, mask=there, other=0.0)[:, None]


@triton.jit
def _write_statistics(x, mean, variance, rows, columns, there, NUM_CHANNELS: tl.constexpr):
    """Mean and variance of whole rows; the variance about the mean, in a second pass over the registers."""
    inside = (columns < NUM_CHANNELS)[None, :]
    middle = tl.sum(tl.where(inside, x, 0.0), axis=1) / NUM_CHANNELS
    centred = tl.where(inside, x - middle[:, None], 0.0)
    tl.store(mean + rows, middle, mask=there)
    tl.store(variance + rows, tl.sum(centred * centred, axis=1) / NUM_CHANNELS, mask=there)


@triton.jit
def _write_column(columns_out, number, values, columns, NUM_CHANNELS: tl.constexpr, NUM_COLUMNS: tl.constexpr):
    """A program's sum over its rows of one parameter's gradient."""
    place = columns_out + (tl.program_id(0) * NUM_COLUMNS + number) * NUM_CHANNELS + columns
    tl.store(place, tl.sum(values, axis=0), mask=columns < NUM_CHANNELS)


@triton.jit
def _write_slope(slopes_out, values):
    """A program's sum over its rows and all channels of a slope's gradient."""
    tl.store(slopes_out + tl.program_id(0), tl.sum(tl.sum(values, axis=0), axis=0))


@triton.jit
def _xhat(x, mean, scale, shift, rows, there):
    """Normalised values."""
    return (x - _per_row(mean, rows, there)) * _per_row(scale, rows, there) + _per_row(shift, rows, there)


# ---------------------------------------------------------------------------------------------------------------- forward
@triton.jit
def statistics(
    y, bias_0, slope_1, mean, variance, num_rows,
    NUM_CHANNELS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr, NUM_TILES: tl.constexpr,
    RECTIFIED: tl.constexpr,
):  # fmt: skip
    """Each row's mean and variance, of the rectified input where ``RECTIFIED``, else of the input itself."""
    columns = tl.arange(0, BLOCK_CHANNELS)
    for tile in range(NUM_TILES):
        rows, there = _tile(tile, num_rows, BLOCK_ROWS, NUM_TILES)
        x = _read(y, rows, columns, there, NUM_CHANNELS)
        if RECTIFIED:
            x = _prelu(x + _per_channel(bias_0, columns, NUM_CHANNELS), tl.load(slope_1))
        _write_statistics(x, mean, variance, rows, columns, there, NUM_CHANNELS)


@triton.jit
def convolve(
    y, bias_0, slope_1, mean_1, scale_1, shift_1, weight_1, bias_1, taps, bias_2, slope_2, d, mean_2, variance_2,
    ends, num_members, num_frames, dilation, before,
    NUM_CHANNELS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr, NUM_TILES: tl.constexpr,
    PADDED: tl.constexpr,
):  # fmt: skip
    """The first norm and the convolution; the second norm's statistics, of what was stored, as the backward pass will see it."""
    columns = tl.arange(0, BLOCK_CHANNELS)
    ok, first_row, first = _strands(num_members, num_frames, dilation, BLOCK_ROWS, NUM_TILES)
    end = num_frames
    if PADDED:  # the convolution sees zeros after so many frames of a member
        end = tl.load(ends + first_row // num_frames, mask=ok, other=0).to(tl.int32)
    bias_before, slope = _per_channel(bias_0, columns, NUM_CHANNELS), tl.load(slope_1)
    weight, bias = _per_channel(weight_1, columns, NUM_CHANNELS), _per_channel(bias_1, columns, NUM_CHANNELS)
    tap_0 = _per_channel(taps, columns, NUM_CHANNELS)
    tap_1 = _per_channel(taps + NUM_CHANNELS, columns, NUM_CHANNELS)
    tap_2 = _per_channel(taps + 2 * NUM_CHANNELS, columns, NUM_CHANNELS)
    bias_after, slope_after = _per_channel(bias_2, columns, NUM_CHANNELS), tl.load(slope_2)
    lead = 2 * dilation - before  # from a frame to that of the last tap
    n_0 = _normal_1(
        y, bias_before, slope, mean_1, scale_1, shift_1, weight, bias, ok, first_row, first + lead - 2 * dilation, end,
        columns, NUM_CHANNELS,
    )  # fmt: skip
    n_1 = _normal_1(
        y, bias_before, slope, mean_1, scale_1, shift_1, weight, bias, ok, first_row, first + lead - dilation, end,
        columns, NUM_CHANNELS,
    )  # fmt: skip
    stored_y, mean, scale, shift, inside = _frame_1(
        y, mean_1, scale_1, shift_1, ok, first_row, first + lead, end, columns, NUM_CHANNELS
    )
    for tile in range(NUM_TILES):
        frames = first + tile * dilation
        next_y, next_mean, next_scale, next_shift, next_inside = _frame_1(
            y, mean_1, scale_1, shift_1, ok & (tile + 1 < NUM_TILES), first_row, frames + dilation + lead, end, columns,
            NUM_CHANNELS,
        )  # fmt: skip
        n_2 = _normal(stored_y, bias_before, slope, mean, scale, shift, weight, bias, inside)
        stored = (tap_0 * n_0 + tap_1 * n_1 + tap_2 * n_2 + bias_after).to(d.dtype.element_ty)
        rows, there = first_row + frames, ok & (frames < num_frames)
        _write(d, rows, columns, there, stored, NUM_CHANNELS)
        q = _prelu(stored.to(tl.float32), slope_after)
        _write_statistics(q, mean_2, variance_2, rows, columns, there, NUM_CHANNELS)
        n_0, n_1 = n_1, n_2
        stored_y, mean, scale, shift, inside = next_y, next_mean, next_scale, next_shift, next_inside


@triton.jit
def _strands(num_members, num_frames, dilation, BLOCK_ROWS: tl.constexpr, NUM_TILES: tl.constexpr):
    """Which of a program's strands there are, the first row of each one's batch member, and its first frame.

    A strand is a walk of ``NUM_TILES`` frames in steps of the dilation, so that what two taps need of a frame is there already.
    """
    per_phase = tl.cdiv(tl.cdiv(num_frames, dilation), NUM_TILES)
    strands = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    members = strands // (per_phase * dilation)
    within = strands % (per_phase * dilation)
    first = within % dilation + within // dilation * NUM_TILES * dilation
    return members < num_members, members * num_frames, first


@triton.jit
def _normal_1(
    y, bias_0, slope, mean, scale, shift, weight, bias, ok, first_row, frames, num_frames, columns, NUM_CHANNELS: tl.constexpr
):  # fmt: skip
    """What the first norm makes of some frames; zero outside the mixture."""
    stored, mean_of, scale_of, shift_of, inside = _frame_1(
        y, mean, scale, shift, ok, first_row, frames, num_frames, columns, NUM_CHANNELS
    )
    return _normal(stored, bias_0, slope, mean_of, scale_of, shift_of, weight, bias, inside)


@triton.jit
def _frame_1(y, mean, scale, shift, ok, first_row, frames, num_frames, columns, NUM_CHANNELS: tl.constexpr):
    """What the first norm needs of some frames, as it is stored; and which of them are inside the mixture."""
    inside = ok & (frames >= 0) & (frames < num_frames)
    rows = first_row + frames
    stored = _stored(y, rows, columns, inside, NUM_CHANNELS)
    return stored, _per_row(mean, rows, inside), _per_row(scale, rows, inside), _per_row(shift, rows, inside), inside


@triton.jit
def _normal(stored, bias_0, slope, mean, scale, shift, weight, bias, inside):
    """The first norm; zero outside the mixture."""
    p = _prelu(stored.to(tl.float32) + bias_0, slope)
    return tl.where(inside[:, None], ((p - mean) * scale + shift) * weight + bias, 0.0)


@triton.jit
def normalise(
    d, slope_2, mean_2, scale_2, shift_2, weight_2, bias_3, m, num_rows,
    NUM_CHANNELS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr, NUM_TILES: tl.constexpr,
    RECTIFIED: tl.constexpr,
):  # fmt: skip
    """The second norm."""
    columns = tl.arange(0, BLOCK_CHANNELS)
    for tile in range(NUM_TILES):
        rows, there = _tile(tile, num_rows, BLOCK_ROWS, NUM_TILES)
        q = _read(d, rows, columns, there, NUM_CHANNELS)
        if RECTIFIED:
            q = _prelu(q, tl.load(slope_2))
        xhat = _xhat(q, mean_2, scale_2, shift_2, rows, there)
        normal = xhat * _per_channel(weight_2, columns, NUM_CHANNELS) + _per_channel(bias_3, columns, NUM_CHANNELS)
        _write(m, rows, columns, there, normal, NUM_CHANNELS)


# --------------------------------------------------------------------------------------------------------------- backward
@triton.jit
def normalise_back_sums(
    columns_out, grad_m, d, slope_2, mean_2, scale_2, shift_2, weight_2, total, product, num_rows,
    NUM_CHANNELS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr, NUM_TILES: tl.constexpr,
    RECTIFIED: tl.constexpr, NUM_COLUMNS: tl.constexpr,
):  # fmt: skip
    """What the second norm's statistics need of the gradient. Columns: weight_2, bias_3."""
    columns = tl.arange(0, BLOCK_CHANNELS)
    of_weight = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    of_bias = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    rows, there = _tile(0, num_rows, BLOCK_ROWS, NUM_TILES)
    stored_grad, stored_d = _stored_pair(grad_m, d, rows, columns, there, NUM_CHANNELS)
    for tile in range(NUM_TILES):
        next_rows, next_there = _tile(tile + 1, num_rows, BLOCK_ROWS, NUM_TILES)
        next_there = next_there & (tile + 1 < NUM_TILES)
        next_grad, next_d = _stored_pair(grad_m, d, next_rows, columns, next_there, NUM_CHANNELS)
        grad = stored_grad.to(tl.float32)
        q = stored_d.to(tl.float32)
        if RECTIFIED:
            q = _prelu(q, tl.load(slope_2))
        xhat = _xhat(q, mean_2, scale_2, shift_2, rows, there)
        grad_xhat = grad * _per_channel(weight_2, columns, NUM_CHANNELS)
        tl.store(total + rows, tl.sum(grad_xhat, axis=1), mask=there)
        tl.store(product + rows, tl.sum(grad_xhat * xhat, axis=1), mask=there)
        of_weight += grad * xhat
        of_bias += grad
        rows, there, stored_grad, stored_d = next_rows, next_there, next_grad, next_d
    _write_column(columns_out, 0, of_weight, columns, NUM_CHANNELS, NUM_COLUMNS)
    _write_column(columns_out, 1, of_bias, columns, NUM_CHANNELS, NUM_COLUMNS)


@triton.jit
def normalise_back(
    columns_out, slopes_out, grad_m, d, slope_2, mean_2, scale_2, weight_2, constant, linear, grad_d, num_rows,
    NUM_CHANNELS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr, NUM_TILES: tl.constexpr,
    RECTIFIED: tl.constexpr, NUM_COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of the second norm's input, before its rectifier. Column: bias_2; and slope_2."""
    columns = tl.arange(0, BLOCK_CHANNELS)
    slope = 1.0
    if RECTIFIED:
        slope = tl.load(slope_2)
    of_bias = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    of_slope = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    for tile in range(NUM_TILES):
        rows, there = _tile(tile, num_rows, BLOCK_ROWS, NUM_TILES)
        x = _read(d, rows, columns, there, NUM_CHANNELS)
        grad_xhat = _read(grad_m, rows, columns, there, NUM_CHANNELS) * _per_channel(weight_2, columns, NUM_CHANNELS)
        grad = _from_xhat(grad_xhat, _prelu(x, slope), mean_2, scale_2, constant, linear, rows, there)
        if RECTIFIED:
            of_slope += tl.where(x > 0, 0.0, grad * x)
            grad = tl.where(x > 0, grad, slope * grad)
            of_bias += grad
        _write(grad_d, rows, columns, there, grad, NUM_CHANNELS)
    if RECTIFIED:
        _write_column(columns_out, 0, of_bias, columns, NUM_CHANNELS, NUM_COLUMNS)
        _write_slope(slopes_out, of_slope)


@triton.jit
def _from_xhat(grad_xhat, x, mean, scale, constant, linear, rows, there):
    """The gradient of a norm's input x; zero in rows that are not there."""
    through_statistics = _per_row(constant, rows, there) + _per_row(linear, rows, there) * (x - _per_row(mean, rows, there))
    return grad_xhat * _per_row(scale, rows, there) + through_statistics


@triton.jit
def _gradient_at(grad_d, ok, first_row, frames, num_frames, columns, NUM_CHANNELS: tl.constexpr):
    """The gradient of the convolution's output at some frames, as it is stored; zero outside the mixture."""
    return _stored(grad_d, first_row + frames, columns, ok & (frames >= 0) & (frames < num_frames), NUM_CHANNELS)


@triton.jit
def convolve_back_sums(
    columns_out, grad_d, y, bias_0, slope_1, mean_1, scale_1, shift_1, weight_1, bias_1, taps, total, product,
    num_members, num_frames, dilation, before, NUM_CHANNELS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr, NUM_TILES: tl.constexpr, NUM_COLUMNS: tl.constexpr,
):  # fmt: skip
    """What the first norm's statistics need of the gradient. Columns: weight_1, bias_1, the three taps."""
    columns = tl.arange(0, BLOCK_CHANNELS)
    ok, first_row, first = _strands(num_members, num_frames, dilation, BLOCK_ROWS, NUM_TILES)
    bias_before, slope = _per_channel(bias_0, columns, NUM_CHANNELS), tl.load(slope_1)
    weight, bias = _per_channel(weight_1, columns, NUM_CHANNELS), _per_channel(bias_1, columns, NUM_CHANNELS)
    zeros = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    of_weight, of_bias, of_tap_0, of_tap_1, of_tap_2 = zeros, zeros, zeros, zeros, zeros
    g_2 = _gradient_at(grad_d, ok, first_row, first + before - 2 * dilation, num_frames, columns, NUM_CHANNELS).to(tl.float32)
    g_1 = _gradient_at(grad_d, ok, first_row, first + before - dilation, num_frames, columns, NUM_CHANNELS).to(tl.float32)
    stored_g = _gradient_at(grad_d, ok, first_row, first + before, num_frames, columns, NUM_CHANNELS)
    stored_y, mean, scale, shift, there = _frame_1(
        y, mean_1, scale_1, shift_1, ok, first_row, first, num_frames, columns, NUM_CHANNELS
    )
    for tile in range(NUM_TILES):
        frames = first + tile * dilation
        more = ok & (tile + 1 < NUM_TILES)
        next_g = _gradient_at(grad_d, more, first_row, frames + dilation + before, num_frames, columns, NUM_CHANNELS)
        next_y, next_mean, next_scale, next_shift, next_there = _frame_1(
            y, mean_1, scale_1, shift_1, more, first_row, frames + dilation, num_frames, columns, NUM_CHANNELS
        )
        g_0 = stored_g.to(tl.float32)
        # Where a strand goes past the end, nothing is added: neither a gradient nor a product with one.
        grad_n = tl.where(there[:, None], _transposed(g_0, g_1, g_2, taps, columns, NUM_CHANNELS), 0.0)
        xhat = (_prelu(stored_y.to(tl.float32) + bias_before, slope) - mean) * scale + shift
        grad_xhat = grad_n * weight
        tl.store(total + first_row + frames, tl.sum(grad_xhat, axis=1), mask=there)
        tl.store(product + first_row + frames, tl.sum(grad_xhat * xhat, axis=1), mask=there)
        n = tl.where(there[:, None], xhat * weight + bias, 0.0)
        of_weight += grad_n * xhat
        of_bias += grad_n
        of_tap_0 += n * g_0
        of_tap_1 += n * g_1
        of_tap_2 += n * g_2
        g_2, g_1, stored_g, stored_y = g_1, g_0, next_g, next_y
        mean, scale, shift, there = next_mean, next_scale, next_shift, next_there
    _write_column(columns_out, 0, of_weight, columns, NUM_CHANNELS, NUM_COLUMNS)
    _write_column(columns_out, 1, of_bias, columns, NUM_CHANNELS, NUM_COLUMNS)
    _write_column(columns_out, 2, of_tap_0, columns, NUM_CHANNELS, NUM_COLUMNS)
    _write_column(columns_out, 3, of_tap_1, columns, NUM_CHANNELS, NUM_COLUMNS)
    _write_column(columns_out, 4, of_tap_2, columns, NUM_CHANNELS, NUM_COLUMNS)


@triton.jit
def _transposed(g_0, g_1, g_2, taps, columns, NUM_CHANNELS: tl.constexpr):
    """The gradient of the convolution's input, from those of the outputs that each tap made of it."""
    tap_0 = _per_channel(taps, columns, NUM_CHANNELS)
    tap_1 = _per_channel(taps + NUM_CHANNELS, columns, NUM_CHANNELS)
    tap_2 = _per_channel(taps + 2 * NUM_CHANNELS, columns, NUM_CHANNELS)
    return tap_0 * g_0 + tap_1 * g_1 + tap_2 * g_2


@triton.jit
def convolve_back(
    columns_out, slopes_out, grad_d, y, bias_0, slope_1, mean_1, scale_1, weight_1, taps, constant, linear, grad_y,
    num_members, num_frames, dilation, before,
    NUM_CHANNELS: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_CHANNELS: tl.constexpr, NUM_TILES: tl.constexpr,
    NUM_COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of the block's hidden input. Column: bias_0; and slope_1."""
    columns = tl.arange(0, BLOCK_CHANNELS)
    ok, first_row, first = _strands(num_members, num_frames, dilation, BLOCK_ROWS, NUM_TILES)
    bias_before, slope = _per_channel(bias_0, columns, NUM_CHANNELS), tl.load(slope_1)
    weight = _per_channel(weight_1, columns, NUM_CHANNELS)
    of_bias = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    of_slope = tl.zeros((BLOCK_ROWS, BLOCK_CHANNELS), tl.float32)
    g_2 = _gradient_at(grad_d, ok, first_row, first + before - 2 * dilation, num_frames, columns, NUM_CHANNELS).to(tl.float32)
    g_1 = _gradient_at(grad_d, ok, first_row, first + before - dilation, num_frames, columns, NUM_CHANNELS).to(tl.float32)
    stored_g = _gradient_at(grad_d, ok, first_row, first + before, num_frames, columns, NUM_CHANNELS)
    there = ok & (first < num_frames)
    stored_y = _stored(y, first_row + first, columns, there, NUM_CHANNELS)
    for tile in range(NUM_TILES):
        frames = first + tile * dilation
        more = ok & (tile + 1 < NUM_TILES)
        next_g = _gradient_at(grad_d, more, first_row, frames + dilation + before, num_frames, columns, NUM_CHANNELS)
        next_there = more & (frames + dilation < num_frames)
        next_y = _stored(y, first_row + frames + dilation, columns, next_there, NUM_CHANNELS)
        g_0 = stored_g.to(tl.float32)
        rows = first_row + frames
        grad_xhat = _transposed(g_0, g_1, g_2, taps, columns, NUM_CHANNELS) * weight
        x = stored_y.to(tl.float32) + bias_before
        grad = _from_xhat(grad_xhat, _prelu(x, slope), mean_1, scale_1, constant, linear, rows, there)
        of_slope += tl.where((x > 0) | ~there[:, None], 0.0, grad * x)
        grad = tl.where(x > 0, grad, slope * grad)
        of_bias += grad
        _write(grad_y, rows, columns, there, grad, NUM_CHANNELS)
        g_2, g_1, stored_g, stored_y, there = g_1, g_0, next_g, next_y, next_there
    _write_column(columns_out, 0, of_bias, columns, NUM_CHANNELS, NUM_COLUMNS)
    _write_slope(slopes_out, of_slope)
