// Vectors of floats, as wide as the processor's, and what is computed of rows of them. S is how values are stored.

#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr long LANES = 16;  // channels of a vector
#elif defined(__AVX__)
constexpr long LANES = 8;
#else
constexpr long LANES = 4;
#endif

using Vector = float __attribute__((vector_size(4 * LANES)));
using Bits = uint32_t __attribute__((vector_size(4 * LANES)));
using HalfBits = uint16_t __attribute__((vector_size(2 * LANES)));

struct bfloat16 {
    uint16_t bits;
};

// A vector whose channels are all there.
struct Whole {
    Vector load(const float *from) const {
        Vector values;
        std::memcpy(&values, from, sizeof values);
        return values;
    }

    Vector load(const bfloat16 *from) const {
        HalfBits bits;
        std::memcpy(&bits, from, sizeof bits);
        return (Vector)(__builtin_convertvector(bits, Bits) << 16);
    }

    void store(Vector values, float *to) const { std::memcpy(to, &values, sizeof values); }

    void store(Vector values, bfloat16 *to) const {  // to nearest, ties to even; NaN stays NaN
#ifdef __AVX512BF16__
        auto bits = _mm512_cvtneps_pbh((__m512)values);
#else
        Bits wide = (Bits)values, rounded = (wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16;
        Bits nan = (Bits)((wide & 0x7fffffffu) > 0x7f800000u);
        auto bits = __builtin_convertvector((rounded & ~nan) | (0x7fc0u & nan), HalfBits);
#endif
        std::memcpy(to, &bits, 2 * LANES);
    }
};

// The last vector of a row whose length is no multiple of LANES; the lanes beyond it read as zeros.
struct Part {
    long count;

    template <class S>
    Vector load(const S *from) const {
        S values[LANES] = {};
        std::memcpy(values, from, count * sizeof(S));
        return Whole().load(values);
    }

    template <class S>
    void store(Vector values, S *to) const {
        S stored[LANES];
        Whole().store(values, stored);
        std::memcpy(to, stored, count * sizeof(S));
    }
};

// Calls visit(lanes, c) for every vector of a row, which begins at channel c.
template <class Visit>
inline void each_vector(long channels, Visit visit) {
    long c = 0;
    for (; c + LANES <= channels; c += LANES) visit(Whole(), c);
    if (c < channels) visit(Part{channels - c}, c);
}

inline float total(Vector values) {
    float sum = 0.f;
    for (long lane = 0; lane < LANES; lane++) sum += values[lane];
    return sum;
}

template <class Lanes>
inline void add(Lanes lanes, Vector values, float *to) {
    lanes.store(lanes.load(to) + values, to);
}

inline Vector prelu(Vector x, float slope) { return x > 0.f ? x : slope * x; }

// The sum of term(lanes, c) over a row's vectors, in four strands so that no addition waits for the one before.
template <class Term>
inline float row_sum(long channels, Term term) {
    Vector strands[4] = {};
    long c = 0;
    for (; c + 4 * LANES <= channels; c += 4 * LANES)
        for (long k = 0; k < 4; k++) strands[k] += term(Whole(), c + k * LANES);
    for (; c + LANES <= channels; c += LANES) strands[0] += term(Whole(), c);
    if (c < channels) strands[1] += term(Part{channels - c}, c);
    return total((strands[0] + strands[1]) + (strands[2] + strands[3]));
}

// Mean and variance of a row. The variance is taken about the mean in a second pass over the row, which is in the cache.
inline void row_statistics(const float *row, long channels, float &mean, float &variance) {
    float middle = row_sum(channels, [&](auto lanes, long c) { return lanes.load(row + c); }) / float(channels);
    float square = row_sum(channels, [&](auto lanes, long c) {
        Vector difference = lanes.load(row + c) - middle;
        if constexpr (std::is_same_v<decltype(lanes), Part>)
            for (long lane = lanes.count; lane < LANES; lane++) difference[lane] = 0.f;
        return difference * difference;
    });
    mean = middle;
    variance = square / float(channels);
}

}  // namespace
