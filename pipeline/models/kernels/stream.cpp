// A causal Conv-TasNet for signals that arrive piece by piece: one call takes a piece through the whole network.
//
// Rows are frames of one member of the batch after the other, each as wide as its channels rounded up to whole panels (below); what
// is beyond the channels is zero, in weights and so in activations. Statistics are merged in double, everything else is float. All
// memory is the caller's: nothing is allocated here. Members are independent, so a thread takes some of them.

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "vectors.h"

extern "C" {

struct Product {            // y = x W + bias; streaming.py has the same structs
    long inputs, outputs;   // outputs in whole panels
    const void *weights;    // [panel, input, PANEL], float or bfloat16
    const float *bias;
    long half;              // whether they are bfloat16
};

struct Norm {
    const float *weight, *bias;
    double eps;
    double *sums;  // [member, 4], of the frames so far; null for a norm that takes each frame by itself
};

struct Block {
    Product expand, residual, skip;  // the last block's residual has no outputs
    Norm norm_1, norm_2;
    float slope_1, slope_2;
    long num_taps, dilation;
    const float *taps, *bias;  // [tap, hidden], [hidden]
    float *ring;               // [member, ring_frames, hidden]: the frame t lies at t modulo ring_frames
    long ring_frames;
};

struct Network {
    long batch, threads, max_frames, hop, num_sources, num_blocks;
    long filters, hidden, hidden_width, mask, rectify;  // mask: 0 sigmoid, 1 relu, 2 softmax
    double forget_rate;                                 // one over the frames after which a share falls to 1/e; 0 for never
    Product encoder, bottleneck, output, decoder;       // output: the sources side by side
    Norm input_norm;
    float output_slope;
    const Block *blocks;
    float *samples_before, *overlap;  // [member, hop], [member, source, hop]
    float *workspace;                 // [threads, workspace_floats]
    long workspace_floats;
};
}

namespace {

constexpr long MAX_TAPS = 16;      // streaming.py knows it
constexpr long PANEL = 2 * LANES;  // outputs that are computed together, next to each other in memory

inline Vector load(const float *from) { return Whole().load(from); }
inline void store(Vector values, float *to) { Whole().store(values, to); }

// Weights that are fetched from memory while others are in use, a share of them by each call.
template <class W>
struct Ahead {
    const W *weights;
    long step;  // weights for every input of a panel
};

// Some rows of some panels' outputs, kept in registers over all inputs.
template <int ROWS, int PANELS, bool ADD, class W>
inline void tile(const Product &p, long panel, const float *x, long x_width, float *y, long y_width, Ahead<W> ahead) {
    Vector sums[ROWS][PANELS][2];
    const W *weights = (const W *)p.weights + panel * p.inputs * PANEL;
    ahead.weights += panel * p.inputs * ahead.step;
    for (int k = 0; k < PANELS; k++)
        for (int half = 0; half < 2; half++)
            for (int row = 0; row < ROWS; row++) {
                long c = (panel + k) * PANEL + half * LANES;
                sums[row][k][half] = load(p.bias + c);
                if (ADD) sums[row][k][half] += load(y + row * y_width + c);
            }
    for (long i = 0; i < p.inputs; i++)
        for (int k = 0; k < PANELS; k++) {
            const W *w = weights + (k * p.inputs + i) * PANEL;
            __builtin_prefetch(ahead.weights + (k * p.inputs + i) * ahead.step, 0, 2);
            Vector first = Whole().load(w), second = Whole().load(w + LANES);
            for (int row = 0; row < ROWS; row++) {
                float value = x[row * x_width + i];
                sums[row][k][0] += first * value;
                sums[row][k][1] += second * value;
            }
        }
    for (int k = 0; k < PANELS; k++)
        for (int half = 0; half < 2; half++)
            for (int row = 0; row < ROWS; row++)
                store(sums[row][k][half], y + row * y_width + (panel + k) * PANEL + half * LANES);
}

// The same rows of all panels; few rows take several panels at once, so that no multiply-add waits for the one before.
template <int ROWS, bool ADD, class W>
void strip(const Product &p, const float *x, long x_width, float *y, long y_width, Ahead<W> ahead) {
    constexpr int PANELS = ROWS == 1 ? 4 : ROWS <= 3 ? 2 : 1;
    long panel = 0, num_panels = p.outputs / PANEL;
    for (; panel + PANELS <= num_panels; panel += PANELS) tile<ROWS, PANELS, ADD, W>(p, panel, x, x_width, y, y_width, ahead);
    for (; panel < num_panels; panel++) tile<ROWS, 1, ADD, W>(p, panel, x, x_width, y, y_width, ahead);
}

constexpr long MAX_ROWS = 6;  // of a tile: twelve sums, two weights and a value fill sixteen registers
constexpr long GROUP = 4;     // panels whose weights meet all rows before the next ones are needed

template <bool ADD, class W>
void product(const Product &p, const float *x, long x_width, float *y, long y_width, long rows) {
    static constexpr decltype(&strip<1, ADD, W>) strips[] = {strip<1, ADD, W>, strip<2, ADD, W>, strip<3, ADD, W>,
                                                             strip<4, ADD, W>, strip<5, ADD, W>, strip<6, ADD, W>};
    long num_panels = p.outputs / PANEL, num_strips = (rows + MAX_ROWS - 1) / MAX_ROWS;
    for (long from = 0; from < num_panels; from += GROUP) {
        long size = std::min(GROUP, num_panels - from) * PANEL;
        const W *weights = (const W *)p.weights + from * p.inputs * PANEL;
        Product part{p.inputs, size, weights, p.bias + from * PANEL, p.half};
        for (long k = 0, row = 0; k < num_strips; k++) {
            long count = (rows - row) / (num_strips - k);
            // All weights lie in the order of their use, so what follows is needed next.
            Ahead<W> ahead{weights + (num_strips + k) * p.inputs * size / num_strips, std::max(PANEL / num_strips, 1L)};
            strips[count - 1](part, x + row * x_width, x_width, y + row * y_width + from * PANEL, y_width, ahead);
            row += count;
        }
    }
}

template <bool ADD>
void product(const Product &p, const float *x, long x_width, float *y, long y_width, long rows) {
    p.half ? product<ADD, bfloat16>(p, x, x_width, y, y_width, rows) : product<ADD, float>(p, x, x_width, y, y_width, rows);
}

// exp within 2e-7, relative.
inline Vector exponential(Vector x) {
    using Integers = int32_t __attribute__((vector_size(4 * LANES)));
    x = x < -87.f ? Vector{} - 87.f : x > 88.f ? Vector{} + 88.f : x;
    Vector shifted = x * 1.44269504f + 12582912.f;  // the sum's last bits hold the nearest whole number of octaves
    Vector octaves = shifted - 12582912.f;
    Vector r = (x - octaves * 0.693359375f) + octaves * 2.12194440e-4f;
    Vector p = ((((r * (1.f / 5040) + 1.f / 720) * r + 1.f / 120) * r + 1.f / 24) * r + 1.f / 6) * r + .5f;
    Integers bits = ((Integers)shifted << 23) + 0x3f800000;
    return (p * r * r + r + 1.f) * (Vector)bits;
}

// What one thread computes of one piece: that of some members.
struct Piece {
    const Network &n;
    long first, members, frames, before;  // before: frames since the start
    float *samples, *encoded, *x, *skips, *y, *masks;
    float *mean, *variance, *scale, *shift;

    long rows() const { return members * frames; }

    template <class Visit>
    void each_row(Visit visit) const {
        for (long member = 0; member < members; member++)
            for (long t = 0; t < frames; t++) visit(member, t, member * frames + t);
    }

    // From the frames' own statistics those to normalise them with: xhat = (p - mean) scale + shift.
    void merge(const Norm &norm) const {
        double decay = std::exp(-n.forget_rate);
        each_row([&](long member, long t, long row) {
            double middle = mean[row], spread = variance[row];
            if (norm.sums) {
                double *sums = norm.sums + (first + member) * 4, count = double(before + t + 1);
                if (before + t == 0) sums[0] = mean[row];
                double offset = mean[row] - sums[0];
                sums[1] = sums[1] * decay + offset;
                sums[2] = sums[2] * decay + offset * offset;
                sums[3] = sums[3] * decay + variance[row];
                double weight = n.forget_rate ? std::expm1(-count * n.forget_rate) / std::expm1(-n.forget_rate) : count;
                double mean_offset = sums[1] / weight;
                middle = sums[0] + mean_offset;
                spread = sums[3] / weight + std::max(sums[2] / weight - mean_offset * mean_offset, 0.0);
            }
            double inverse = 1 / std::sqrt(spread + norm.eps);
            scale[row] = float(inverse);
            shift[row] = float((mean[row] - middle) * inverse);
        });
    }

    void normalise(const Norm &norm, const float *from, float *to, long width, long row) const {
        for (long c = 0; c < width; c += LANES)
            store(((load(from + c) - mean[row]) * scale[row] + shift[row]) * load(norm.weight + c) + load(norm.bias + c), to + c);
    }

    void encode(const float *in, long in_width) const {
        long width = n.encoder.outputs;
        for (long member = 0; member < members; member++) {
            float *tail = n.samples_before + (first + member) * n.hop;
            std::copy_n(tail, n.hop, samples);
            std::copy_n(in + (first + member) * in_width, frames * n.hop, samples + n.hop);
            std::copy_n(samples + frames * n.hop, n.hop, tail);
            product<false>(n.encoder, samples, n.hop, encoded + member * frames * width, width, frames);
        }
        if (n.rectify)
            for (long i = 0; i < rows() * width; i += LANES) store(prelu(load(encoded + i), 0.f), encoded + i);
        each_row([&](long, long, long row) { row_statistics(encoded + row * width, n.filters, mean[row], variance[row]); });
        merge(n.input_norm);
        each_row([&](long, long, long row) { normalise(n.input_norm, encoded + row * width, y + row * width, width, row); });
        product<false>(n.bottleneck, y, width, x, n.bottleneck.outputs, rows());
    }

    void block(const Block &b) const {
        long width = n.hidden_width;
        fetch_ring(b);
        product<false>(b.expand, x, n.bottleneck.outputs, y, width, rows());
        each_row([&](long, long, long row) {
            for (float *c = y + row * width, *end = c + width; c < end; c += LANES) store(prelu(load(c), b.slope_1), c);
            row_statistics(y + row * width, n.hidden, mean[row], variance[row]);
        });
        merge(b.norm_1);
        each_row([&](long member, long t, long row) {
            normalise(b.norm_1, y + row * width, in_ring(b, member, before + t), width, row);
        });
        each_row([&](long member, long t, long row) {
            convolve(b, member, t, y + row * width);
            row_statistics(y + row * width, n.hidden, mean[row], variance[row]);
        });
        merge(b.norm_2);
        each_row([&](long, long, long row) { normalise(b.norm_2, y + row * width, y + row * width, width, row); });
        product<true>(b.residual, y, width, x, n.bottleneck.outputs, rows());
        product<true>(b.skip, y, width, skips, b.skip.outputs, rows());
    }

    float *in_ring(const Block &b, long member, long frame) const {
        long place = (frame % b.ring_frames + b.ring_frames) % b.ring_frames;
        return b.ring + ((first + member) * b.ring_frames + place) * n.hidden_width;
    }

    // Rows of the ring that the convolution will read or write, from memory while the product before it is computed.
    void fetch_ring(const Block &b) const {
        each_row([&](long member, long t, long) {
            for (long tap = 0; tap < b.num_taps; tap++) {
                const float *row = in_ring(b, member, before + t - tap * b.dilation);
                for (long c = 0; c < n.hidden_width; c += 16) __builtin_prefetch(row + c, 0, 2);
            }
        });
    }

    void convolve(const Block &b, long member, long t, float *to) const {
        const float *from[MAX_TAPS];
        for (long tap = 0; tap < b.num_taps; tap++) from[tap] = in_ring(b, member, before + t - (b.num_taps - 1 - tap) * b.dilation);
        for (long c = 0; c < n.hidden_width; c += LANES) {
            Vector sum = load(b.bias + c);
            for (long tap = 0; tap < b.num_taps; tap++) sum += load(b.taps + tap * n.hidden_width + c) * load(from[tap] + c);
            store(prelu(sum, b.slope_2), to + c);
        }
    }

    void mask() const {
        long width = n.encoder.outputs, skip_width = n.output.inputs;
        for (long i = 0; i < rows() * skip_width; i += LANES) store(prelu(load(skips + i), n.output_slope), skips + i);
        product<false>(n.output, skips, skip_width, masks, n.output.outputs, rows());
        each_row([&](long, long, long row) {
            for (long c = 0; c < width; c += LANES) mask_vector(masks + row * n.output.outputs + c, width, load(encoded + row * width + c));
        });
    }

    // All sources' masks of one vector of filters, made from the logits and multiplied with the mixture's frame.
    void mask_vector(float *logits, long width, Vector mixture) const {
        Vector sum = {}, largest = load(logits);
        if (n.mask == 2) {
            for (long k = 1; k < n.num_sources; k++) {
                Vector other = load(logits + k * width);
                largest = other > largest ? other : largest;
            }
            for (long k = 0; k < n.num_sources; k++) sum += exponential(load(logits + k * width) - largest);
        }
        for (long k = 0; k < n.num_sources; k++) {
            Vector logit = load(logits + k * width), mask = prelu(logit, 0.f);
            if (n.mask == 0) mask = 1.f / (1.f + exponential(-logit));
            if (n.mask == 2) mask = exponential(logit - largest) / sum;
            store(mask * mixture, logits + k * width);
        }
    }

    void decode(float *out, long out_width) const {
        long width = n.decoder.outputs;  // a frame's two halves
        product<false>(n.decoder, masks, n.encoder.outputs, y, width, rows() * n.num_sources);
        each_row([&](long member, long t, long row) {
            for (long k = 0; k < n.num_sources; k++) {
                long signal = (first + member) * n.num_sources + k;
                const float *frame = y + (row * n.num_sources + k) * width;
                float *overlap = n.overlap + signal * n.hop, *to = out + signal * out_width + t * n.hop;
                for (long i = 0; i < n.hop; i++) to[i] = overlap[i] + frame[i];
                std::copy_n(frame + n.hop, n.hop, overlap);
            }
        });
    }
};

}  // namespace

extern "C" long stream_panel() { return PANEL; }

// Ask for large pages, whose addresses the processor finds faster, before memory is first used.
extern "C" void stream_large_pages(void *memory, long bytes) {
#ifdef MADV_HUGEPAGE
    long page = 1 << 21, start = ((long)memory + page - 1) / page * page;
    if (bytes > 2 * page) madvise((void *)start, ((long)memory + bytes - start) / page * page, MADV_HUGEPAGE);
#endif
}

// samples [member, frames · hop] -> estimates [member, source, frames · hop]; `before` frames have been before.
extern "C" void stream_piece(const Network *network, const float *samples, float *estimates, long frames, long before) {
    const Network &n = *network;
    long share = (n.batch + n.threads - 1) / n.threads;
#pragma omp parallel for schedule(static) num_threads(n.threads) if (n.threads > 1)
    for (long thread = 0; thread < n.threads; thread++) {
        long first = thread * share, members = std::min(share, n.batch - first);
        for (long start = 0; start < frames && members > 0; start += n.max_frames) {
            long count = std::min(n.max_frames, frames - start), rows = share * n.max_frames;
            float *room = n.workspace + thread * n.workspace_floats;
            auto take = [&](long floats) { return std::exchange(room, room + (floats + 15) / 16 * 16); };
            long widest = std::max({n.encoder.outputs, n.hidden_width, n.num_sources * n.decoder.outputs});
            Piece part{n, first, members, count, before + start};
            part.samples = take((n.max_frames + 1) * n.hop);
            part.encoded = take(rows * n.encoder.outputs);
            part.x = take(rows * n.bottleneck.outputs);
            part.skips = take(rows * n.output.inputs);
            part.y = take(rows * widest);
            part.masks = take(rows * n.output.outputs);
            part.mean = take(rows), part.variance = take(rows), part.scale = take(rows), part.shift = take(rows);
            std::fill_n(part.skips, members * count * n.output.inputs, 0.f);
            part.encode(samples + start * n.hop, frames * n.hop);
            for (long i = 0; i < n.num_blocks; i++) part.block(n.blocks[i]);
            part.mask();
            part.decode(estimates + start * n.hop, frames * n.hop);
        }
    }
}
