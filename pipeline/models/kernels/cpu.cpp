// The part of a Conv-TasNet block between its two matrix products, in as few passes over memory as its norms allow:
//
//     p = prelu(y + bias_0, slope_1)                      first norm's statistics of p, frame by frame
//     n = ((p - mean) scale + shift) weight_1 + bias_1    mean, scale and shift are a frame's own
//     d = depthwise(n, taps) + bias_2                     written; second norm's statistics of q
//     q = prelu(d, slope_2)
//     m = ((q - mean) scale + shift) weight_2 + bias_3    written
//
// Between the passes the caller merges the statistics over frames, which is where norms differ (norms.py). Arrays are
// [batch, frames, channels]; S is how activations are stored, bfloat16 or float; all arithmetic is in float. Sums over frames are
// made in pieces of fixed length and added up by the caller, so that no result depends on the number of threads.

#include "vectors.h"

struct Normal {  // per frame: xhat = (p - mean) scale + shift
    const float *mean, *scale, *shift;
};

struct Arguments {  // kernels.py has the same list
    long batch, frames, channels, piece, threads;
    long num_taps, dilation, before;
    float slope_1, slope_2;
    const float *bias_0, *weight_1, *bias_1, *taps, *bias_2, *weight_2, *bias_3;  // [channels], taps [tap, channels]
    Normal normal_1, normal_2;                                                      // [batch, frames]
    void *y, *d, *m, *grad_m, *grad_d, *grad_y;                                     // S [batch, frames, channels]
    float *mean, *variance;                 // out: statistics of each frame
    float *sum, *product;                   // out: over channels, the gradient of xhat, and that times xhat
    const float *constant, *linear;         // in: what the statistics add to the gradient, constant + linear (p - mean)
    float *columns;                         // out: [pieces, parameters, channels], gradients of parameters, zeroed by the caller
};

namespace {

// Frame t of a batch member, row `row` of [batch · frames].
struct Frame {
    long piece, t, row;

    // Whether the member has a frame so many frames on.
    bool has(const Arguments &a, long shift) const { return t + shift >= 0 && t + shift < a.frames; }

    // The row of that frame; `outside` where there is none.
    template <class S>
    const S *row_at(const Arguments &a, const S *array, long shift, const S *outside) const {
        return has(a, shift) ? array + (row + shift) * a.channels : outside;
    }
};

// Known to the compiler where TAPS is not 0, so that their loops unroll.
template <long TAPS>
inline long taps(const Arguments &a) {
    return TAPS ? TAPS : a.num_taps;
}

// Calls visit(frame) for all frames; a piece is one thread's. Every piece has its own copy of `visit`, so that the compiler sees
// that what is stored changes none of its values.
template <class Visit>
void each_frame(const Arguments &a, Visit visit) {
    long per_member = (a.frames + a.piece - 1) / a.piece;
#pragma omp parallel for schedule(static) num_threads(a.threads)
    for (long piece = 0; piece < a.batch * per_member; piece++) {
        Visit own = visit;
        long member = piece / per_member, first = piece % per_member * a.piece;
        long end = first + a.piece < a.frames ? first + a.piece : a.frames;
        for (long t = first; t < end; t++) own(Frame{piece, t, member * a.frames + t});
    }
}

// The first norm's xhat of row r, and the second's: the same two functions for all passes.
template <class S, class Lanes>
inline Vector xhat_1(const Arguments &a, Lanes lanes, long r, long c, Vector bias) {
    Vector p = prelu(lanes.load((const S *)a.y + r * a.channels + c) + bias, a.slope_1);
    return (p - a.normal_1.mean[r]) * a.normal_1.scale[r] + a.normal_1.shift[r];
}

template <class S, class Lanes>
inline Vector xhat_2(const Arguments &a, Lanes lanes, long r, long c) {
    Vector q = prelu(lanes.load((const S *)a.d + r * a.channels + c), a.slope_2);
    return (q - a.normal_2.mean[r]) * a.normal_2.scale[r] + a.normal_2.shift[r];
}

template <class S>
void statistics(const Arguments &a) {
    each_frame(a, [a, buffer = std::vector<float>(a.channels)](const Frame &frame) mutable {
        float *p = buffer.data();
        each_vector(a.channels, [&](auto lanes, long c) {
            Vector y = lanes.load((const S *)a.y + frame.row * a.channels + c);
            lanes.store(prelu(y + lanes.load(a.bias_0 + c), a.slope_1), p + c);
        });
        row_statistics(p, a.channels, a.mean[frame.row], a.variance[frame.row]);
    });
}

template <class S, long TAPS>
void convolve(const Arguments &a) {
    std::vector<float> zeros(a.channels);
    each_frame(a, [a, zeros = zeros.data(), buffer = std::vector<float>(a.channels)](const Frame &frame) mutable {
        float *q = buffer.data();
        S *d = (S *)a.d + frame.row * a.channels;
        each_vector(a.channels, [&](auto lanes, long c) {
            Vector bias_0 = lanes.load(a.bias_0 + c), weight = lanes.load(a.weight_1 + c), bias = lanes.load(a.bias_1 + c);
            Vector sum = lanes.load(a.bias_2 + c);
            for (long tap = 0; tap < taps<TAPS>(a); tap++) {
                long shift = tap * a.dilation - a.before;
                bool met = frame.has(a, shift);  // what lies outside is zero after the norm
                Vector factor = lanes.load((met ? a.taps + tap * a.channels : zeros) + c);
                sum += factor * (xhat_1<S>(a, lanes, met ? frame.row + shift : frame.row, c, bias_0) * weight + bias);
            }
            lanes.store(sum, d + c);
            lanes.store(prelu(lanes.load(d + c), a.slope_2), q + c);  // of what was stored, as the backward pass will see it
        });
        row_statistics(q, a.channels, a.mean[frame.row], a.variance[frame.row]);
    });
}

template <class S>
void normalise(const Arguments &a) {
    each_frame(a, [a](const Frame &frame) {
        each_vector(a.channels, [&](auto lanes, long c) {
            Vector weight = lanes.load(a.weight_2 + c), bias = lanes.load(a.bias_3 + c);
            lanes.store(xhat_2<S>(a, lanes, frame.row, c) * weight + bias, (S *)a.m + frame.row * a.channels + c);
        });
    });
}

// columns: weight_2, bias_3
template <class S>
void normalise_back_sums(const Arguments &a) {
    each_frame(a, [a](const Frame &frame) {
        Vector sum = {}, product = {};
        each_vector(a.channels, [&](auto lanes, long c) {
            float *columns = a.columns + frame.piece * 2 * a.channels + c;
            Vector grad_m = lanes.load((const S *)a.grad_m + frame.row * a.channels + c);
            Vector xhat = xhat_2<S>(a, lanes, frame.row, c), grad_xhat = grad_m * lanes.load(a.weight_2 + c);
            sum += grad_xhat;
            product += grad_xhat * xhat;
            add(lanes, grad_m * xhat, columns);
            add(lanes, grad_m, columns + a.channels);
        });
        a.sum[frame.row] = total(sum);
        a.product[frame.row] = total(product);
    });
}

// The gradient of a rectifier's input x, stored, and those of its slope and of the bias before it, added to their columns.
template <class S, class Lanes>
inline void prelu_back(const Arguments &a, Lanes lanes, const Frame &frame, long c, Vector x, Vector grad_out, float slope, void *to) {
    float *bias = a.columns + frame.piece * 2 * a.channels + c, *column_slope = bias + a.channels;
    Vector grad = x > 0.f ? grad_out : slope * grad_out;
    add(lanes, grad, bias);
    add(lanes, x > 0.f ? Vector{} : grad_out * x, column_slope);
    lanes.store(grad, (S *)to + frame.row * a.channels + c);
}

// columns: bias_2, slope_2
template <class S>
void normalise_back(const Arguments &a) {
    each_frame(a, [a](const Frame &frame) {
        long r = frame.row;
        each_vector(a.channels, [&](auto lanes, long c) {
            Vector x = lanes.load((const S *)a.d + r * a.channels + c), q = prelu(x, a.slope_2);
            Vector grad_xhat = lanes.load((const S *)a.grad_m + r * a.channels + c) * lanes.load(a.weight_2 + c);
            Vector grad_q = grad_xhat * a.normal_2.scale[r] + a.constant[r] + a.linear[r] * (q - a.normal_2.mean[r]);
            prelu_back<S>(a, lanes, frame, c, x, grad_q, a.slope_2, a.grad_d);
        });
    });
}

// The gradient of the convolution's input.
template <class S, long TAPS, class Lanes>
inline Vector transposed(const Arguments &a, const Frame &frame, Lanes lanes, long c, const S *zeros) {
    Vector sum = {};
    for (long tap = 0; tap < taps<TAPS>(a); tap++) {
        const S *grad_d = frame.row_at(a, (const S *)a.grad_d, a.before - tap * a.dilation, zeros);
        sum += lanes.load(a.taps + tap * a.channels + c) * lanes.load(grad_d + c);
    }
    return sum;
}

// columns: weight_1, bias_1, taps
template <class S, long TAPS>
void convolve_back_sums(const Arguments &a) {
    std::vector<S> zeros(a.channels);
    each_frame(a, [a, zeros = zeros.data()](const Frame &frame) {
        Vector sum = {}, product = {};
        each_vector(a.channels, [&](auto lanes, long c) {
            float *columns = a.columns + frame.piece * (2 + a.num_taps) * a.channels + c;
            Vector weight = lanes.load(a.weight_1 + c);
            Vector xhat = xhat_1<S>(a, lanes, frame.row, c, lanes.load(a.bias_0 + c));
            Vector grad_n = transposed<S, TAPS>(a, frame, lanes, c, zeros), grad_xhat = grad_n * weight;
            sum += grad_xhat;
            product += grad_xhat * xhat;
            add(lanes, grad_n * xhat, columns);
            add(lanes, grad_n, columns + a.channels);
            Vector n = xhat * weight + lanes.load(a.bias_1 + c);
            for (long tap = 0; tap < taps<TAPS>(a); tap++) {
                const S *grad_d = frame.row_at(a, (const S *)a.grad_d, a.before - tap * a.dilation, zeros);
                add(lanes, n * lanes.load(grad_d + c), columns + (2 + tap) * a.channels);
            }
        });
        a.sum[frame.row] = total(sum);
        a.product[frame.row] = total(product);
    });
}

// columns: bias_0, slope_1
template <class S, long TAPS>
void convolve_back(const Arguments &a) {
    std::vector<S> zeros(a.channels);
    each_frame(a, [a, zeros = zeros.data()](const Frame &frame) {
        long r = frame.row;
        each_vector(a.channels, [&](auto lanes, long c) {
            Vector x = lanes.load((const S *)a.y + r * a.channels + c) + lanes.load(a.bias_0 + c), p = prelu(x, a.slope_1);
            Vector grad_xhat = transposed<S, TAPS>(a, frame, lanes, c, zeros) * lanes.load(a.weight_1 + c);
            Vector grad_p = grad_xhat * a.normal_1.scale[r] + a.constant[r] + a.linear[r] * (p - a.normal_1.mean[r]);
            prelu_back<S>(a, lanes, frame, c, x, grad_p, a.slope_1, a.grad_y);
        });
    });
}

}  // namespace

#define EXPORT(NAME)                                                        \
    extern "C" void NAME##_float32(const Arguments *a) { NAME<float>(*a); } \
    extern "C" void NAME##_bfloat16(const Arguments *a) { NAME<bfloat16>(*a); }

#define EXPORT_WITH_TAPS(NAME)                                                                                                  \
    extern "C" void NAME##_float32(const Arguments *a) { a->num_taps == 3 ? NAME<float, 3>(*a) : NAME<float, 0>(*a); }          \
    extern "C" void NAME##_bfloat16(const Arguments *a) { a->num_taps == 3 ? NAME<bfloat16, 3>(*a) : NAME<bfloat16, 0>(*a); }

EXPORT(statistics)
EXPORT_WITH_TAPS(convolve)
EXPORT(normalise)
EXPORT(normalise_back_sums)
EXPORT(normalise_back)
EXPORT_WITH_TAPS(convolve_back_sums)
EXPORT_WITH_TAPS(convolve_back)
