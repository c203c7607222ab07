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

#include <cstdint>
#include <cstring>
#include <vector>

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

using bfloat16 = struct {
    uint16_t bits;
};

inline float load(float value) { return value; }

inline float load(bfloat16 value) {
    uint32_t bits = uint32_t(value.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, 4);
    return wide;
}

inline void store(float value, float &place) { place = value; }

inline void store(float value, bfloat16 &place) {  // to nearest, ties to even; NaN stays NaN
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    place.bits = uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

inline float prelu(float x, float slope) { return x > 0.f ? x : slope * x; }

// Calls row(piece, start, t) for every frame t of the batch member whose frames begin at `start`. Each thread has its own copy of
// `row`, buffers included.
template <class Row>
void each_frame(const Arguments &a, Row shared) {
    long per_member = (a.frames + a.piece - 1) / a.piece;
#pragma omp parallel num_threads(a.threads)
    {
        Row row = shared;
#pragma omp for schedule(static)
        for (long piece = 0; piece < a.batch * per_member; piece++) {
            long start = piece / per_member * a.frames, first = piece % per_member * a.piece;
            for (long t = first; t < first + a.piece && t < a.frames; t++) row(piece, start, t);
        }
    }
}

// The variance is taken about the mean in a second pass over the row, which is in the cache.
inline void row_statistics(const float *row, long channels, float &mean, float &variance) {
    float sum = 0.f, square = 0.f;
#pragma omp simd reduction(+ : sum)
    for (long c = 0; c < channels; c++) sum += row[c];
    float middle = sum / float(channels);
#pragma omp simd reduction(+ : square)
    for (long c = 0; c < channels; c++) square += (row[c] - middle) * (row[c] - middle);
    mean = middle;
    variance = square / float(channels);
}

template <class S>
void statistics(const Arguments &a) {
    each_frame(a, [&a, p = std::vector<float>(a.channels)](long, long start, long t) mutable {
        const S *y = (const S *)a.y + (start + t) * a.channels;
        float *buffer = p.data();
#pragma omp simd
        for (long c = 0; c < a.channels; c++) buffer[c] = prelu(load(y[c]) + a.bias_0[c], a.slope_1);
        row_statistics(buffer, a.channels, a.mean[start + t], a.variance[start + t]);
    });
}

template <class S>
void convolve(const Arguments &a) {
    each_frame(a, [&a, buffer = std::vector<float>(a.channels)](long, long start, long t) mutable {
        float *sum = buffer.data();
        std::memcpy(sum, a.bias_2, a.channels * sizeof(float));
        for (long tap = 0; tap < a.num_taps; tap++) {
            long u = t + tap * a.dilation - a.before;
            if (u < 0 || u >= a.frames) continue;
            const S *y = (const S *)a.y + (start + u) * a.channels;
            const float *weight = a.taps + tap * a.channels;
            float mean = a.normal_1.mean[start + u], scale = a.normal_1.scale[start + u], shift = a.normal_1.shift[start + u];
#pragma omp simd
            for (long c = 0; c < a.channels; c++) {
                float xhat = (prelu(load(y[c]) + a.bias_0[c], a.slope_1) - mean) * scale + shift;
                sum[c] += weight[c] * (xhat * a.weight_1[c] + a.bias_1[c]);
            }
        }
        S *d = (S *)a.d + (start + t) * a.channels;
#pragma omp simd
        for (long c = 0; c < a.channels; c++) {
            store(sum[c], d[c]);
            sum[c] = prelu(load(d[c]), a.slope_2);  // of what was stored, as the backward pass will see it
        }
        row_statistics(sum, a.channels, a.mean[start + t], a.variance[start + t]);
    });
}

template <class S>
void normalise(const Arguments &a) {
    each_frame(a, [&a](long, long start, long t) {
        const S *d = (const S *)a.d + (start + t) * a.channels;
        S *m = (S *)a.m + (start + t) * a.channels;
        float mean = a.normal_2.mean[start + t], scale = a.normal_2.scale[start + t], shift = a.normal_2.shift[start + t];
#pragma omp simd
        for (long c = 0; c < a.channels; c++)
            store(((prelu(load(d[c]), a.slope_2) - mean) * scale + shift) * a.weight_2[c] + a.bias_3[c], m[c]);
    });
}

// columns: weight_2, bias_3
template <class S>
void normalise_back_sums(const Arguments &a) {
    each_frame(a, [&a](long piece, long start, long t) {
        const S *d = (const S *)a.d + (start + t) * a.channels, *grad_m = (const S *)a.grad_m + (start + t) * a.channels;
        float mean = a.normal_2.mean[start + t], scale = a.normal_2.scale[start + t], shift = a.normal_2.shift[start + t];
        float *grad_weight = a.columns + piece * 2 * a.channels, *grad_bias = grad_weight + a.channels;
        float sum = 0.f, product = 0.f;
#pragma omp simd reduction(+ : sum, product)
        for (long c = 0; c < a.channels; c++) {
            float grad = load(grad_m[c]), xhat = (prelu(load(d[c]), a.slope_2) - mean) * scale + shift;
            grad_weight[c] += grad * xhat;
            grad_bias[c] += grad;
            sum += grad * a.weight_2[c];
            product += grad * a.weight_2[c] * xhat;
        }
        a.sum[start + t] = sum;
        a.product[start + t] = product;
    });
}

// columns: bias_2, slope_2
template <class S>
void normalise_back(const Arguments &a) {
    each_frame(a, [&a](long piece, long start, long t) {
        const S *d = (const S *)a.d + (start + t) * a.channels, *grad_m = (const S *)a.grad_m + (start + t) * a.channels;
        S *grad_d = (S *)a.grad_d + (start + t) * a.channels;
        float mean = a.normal_2.mean[start + t], scale = a.normal_2.scale[start + t];
        float constant = a.constant[start + t], linear = a.linear[start + t];
        float *grad_bias = a.columns + piece * 2 * a.channels, *grad_slope = grad_bias + a.channels;
#pragma omp simd
        for (long c = 0; c < a.channels; c++) {
            float x = load(d[c]), q = prelu(x, a.slope_2);
            float grad_q = load(grad_m[c]) * a.weight_2[c] * scale + constant + linear * (q - mean);
            float grad = x > 0.f ? grad_q : a.slope_2 * grad_q;
            grad_slope[c] += x > 0.f ? 0.f : grad_q * x;
            grad_bias[c] += grad;
            store(grad, grad_d[c]);
        }
    });
}

// The gradient of the convolution's input at frame t.
template <class S>
void transposed_row(const Arguments &a, long start, long t, float *grad_n) {
    std::memset(grad_n, 0, a.channels * sizeof(float));
    for (long tap = 0; tap < a.num_taps; tap++) {
        long u = t - tap * a.dilation + a.before;
        if (u < 0 || u >= a.frames) continue;
        const S *grad_d = (const S *)a.grad_d + (start + u) * a.channels;
        const float *weight = a.taps + tap * a.channels;
#pragma omp simd
        for (long c = 0; c < a.channels; c++) grad_n[c] += weight[c] * load(grad_d[c]);
    }
}

// columns: weight_1, bias_1, taps
template <class S>
void convolve_back_sums(const Arguments &a) {
    each_frame(a, [&a, buffer = std::vector<float>(2 * a.channels)](long piece, long start, long t) mutable {
        const S *y = (const S *)a.y + (start + t) * a.channels;
        float mean = a.normal_1.mean[start + t], scale = a.normal_1.scale[start + t], shift = a.normal_1.shift[start + t];
        float *grad_n = buffer.data(), *n = grad_n + a.channels;
        float *grad_weight = a.columns + piece * (2 + a.num_taps) * a.channels, *grad_bias = grad_weight + a.channels;
        transposed_row<S>(a, start, t, grad_n);
        float sum = 0.f, product = 0.f;
#pragma omp simd reduction(+ : sum, product)
        for (long c = 0; c < a.channels; c++) {
            float xhat = (prelu(load(y[c]) + a.bias_0[c], a.slope_1) - mean) * scale + shift;
            grad_weight[c] += grad_n[c] * xhat;
            grad_bias[c] += grad_n[c];
            sum += grad_n[c] * a.weight_1[c];
            product += grad_n[c] * a.weight_1[c] * xhat;
            n[c] = xhat * a.weight_1[c] + a.bias_1[c];
        }
        a.sum[start + t] = sum;
        a.product[start + t] = product;
        for (long tap = 0; tap < a.num_taps; tap++) {
            long u = t - tap * a.dilation + a.before;
            if (u < 0 || u >= a.frames) continue;
            const S *grad_d = (const S *)a.grad_d + (start + u) * a.channels;
            float *grad_tap = grad_bias + (1 + tap) * a.channels;
#pragma omp simd
            for (long c = 0; c < a.channels; c++) grad_tap[c] += load(grad_d[c]) * n[c];
        }
    });
}

// columns: bias_0, slope_1
template <class S>
void convolve_back(const Arguments &a) {
    each_frame(a, [&a, buffer = std::vector<float>(a.channels)](long piece, long start, long t) mutable {
        const S *y = (const S *)a.y + (start + t) * a.channels;
        S *grad_y = (S *)a.grad_y + (start + t) * a.channels;
        float mean = a.normal_1.mean[start + t], scale = a.normal_1.scale[start + t];
        float constant = a.constant[start + t], linear = a.linear[start + t];
        float *grad_n = buffer.data();
        float *grad_bias = a.columns + piece * 2 * a.channels, *grad_slope = grad_bias + a.channels;
        transposed_row<S>(a, start, t, grad_n);
#pragma omp simd
        for (long c = 0; c < a.channels; c++) {
            float x = load(y[c]) + a.bias_0[c], p = prelu(x, a.slope_1);
            float grad_p = grad_n[c] * a.weight_1[c] * scale + constant + linear * (p - mean);
            float grad = x > 0.f ? grad_p : a.slope_1 * grad_p;
            grad_slope[c] += x > 0.f ? 0.f : grad_p * x;
            grad_bias[c] += grad;
            store(grad, grad_y[c]);
        }
    });
}

}  // namespace

#define EXPORT(NAME)                                                                \
    extern "C" void NAME##_float32(const Arguments *a) { NAME<float>(*a); }         \
    extern "C" void NAME##_bfloat16(const Arguments *a) { NAME<bfloat16>(*a); }

EXPORT(statistics)
EXPORT(convolve)
EXPORT(normalise)
EXPORT(normalise_back_sums)
EXPORT(normalise_back)
EXPORT(convolve_back_sums)
EXPORT(convolve_back)
