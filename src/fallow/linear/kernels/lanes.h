// A vector of LANES floats, and the few shuffles that transposing and summing need. GCC's and Clang's vector extensions, so
// that one source serves every instruction set. Included once by each engine, in a namespace of its own: code that was
// compiled for AVX-512 must never stand in for code of the same name that was not.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

#define INLINE inline __attribute__((always_inline))

namespace fallow::FALLOW_ENGINE {

typedef float Vector __attribute__((vector_size(LANES * 4), may_alias));
typedef float Unaligned __attribute__((vector_size(LANES * 4), may_alias, aligned(4)));
typedef int32_t Lanes __attribute__((vector_size(LANES * 4)));
typedef float Four __attribute__((vector_size(16), may_alias));
typedef float UnalignedFour __attribute__((vector_size(16), may_alias, aligned(4)));

static INLINE Vector load(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
static INLINE void store(float* p, Vector v) { *reinterpret_cast<Unaligned*>(p) = v; }
static INLINE Four load_four(const float* p) { return *reinterpret_cast<const UnalignedFour*>(p); }
static INLINE void store_four(float* p, Four v) { *reinterpret_cast<UnalignedFour*>(p) = v; }
static INLINE Vector broadcast(float x) { return x - Vector{}; }

static INLINE Vector load_part(const float* p, int count) {
  Vector v{};
  for (int lane = 0; lane < count; lane++) v[lane] = p[lane];
  return v;
}
static INLINE void store_part(float* p, Vector v, int count) {
  for (int lane = 0; lane < count; lane++) p[lane] = v[lane];
}

// Pick(lane) names a lane of a (below LANES) or of b (LANES and above).
template <int (*Pick)(int), int... Lane>
static INLINE Vector shuffled(Vector a, Vector b, std::integer_sequence<int, Lane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, Pick(Lane)...);
#else
  return __builtin_shuffle(a, b, Lanes{Pick(Lane)...});
#endif
}
template <int (*Pick)(int)>
static INLINE Vector shuffle(Vector a, Vector b) {
  return shuffled<Pick>(a, b, std::make_integer_sequence<int, LANES>());
}

// Within each quarter of four lanes, as the processors' own unpack instructions do:
constexpr int low_ones(int l) { return (l & ~3) + (l & 3) / 2 + (l & 1) * LANES; }           // a0 b0 a1 b1
constexpr int high_ones(int l) { return (l & ~3) + 2 + (l & 3) / 2 + (l & 1) * LANES; }      // a2 b2 a3 b3
constexpr int low_twos(int l) { return (l & ~3) + (l & 1) + (l & 2) / 2 * LANES; }           // a0 a1 b0 b1
constexpr int high_twos(int l) { return (l & ~3) + 2 + (l & 1) + (l & 2) / 2 * LANES; }      // a2 a3 b2 b3
// Of whole quarters:
constexpr int low_half(int l) { return l % (LANES / 2) + l / (LANES / 2) * LANES; }                  // a0 a1 b0 b1
constexpr int high_half(int l) { return l % (LANES / 2) + LANES / 2 + l / (LANES / 2) * LANES; }     // a2 a3 b2 b3
constexpr int even_quarters(int l) {                                                                 // a0 a2 b0 b2
  return (l / 4 * 2) % (LANES / 4) * 4 + l % 4 + l / (LANES / 2) * LANES;
}
constexpr int odd_quarters(int l) {                                                                  // a1 a3 b1 b3
  return (l / 4 * 2 + 1) % (LANES / 4) * 4 + l % 4 + l / (LANES / 2) * LANES;
}

// Four vectors to one: lane l of each quarter holds the sum over that quarter of vector l.
static INLINE Vector quarter_sums(Vector a, Vector b, Vector c, Vector d) {
  Vector ab = shuffle<low_ones>(a, b) + shuffle<high_ones>(a, b);
  Vector cd = shuffle<low_ones>(c, d) + shuffle<high_ones>(c, d);
  return shuffle<low_twos>(ab, cd) + shuffle<high_twos>(ab, cd);
}

// Adds up the quarters.
static INLINE Four fold(Vector v) {
  Four sum{};
  for (int quarter = 0; quarter < LANES / 4; quarter++) {
    Four part = {v[4 * quarter], v[4 * quarter + 1], v[4 * quarter + 2], v[4 * quarter + 3]};
    sum = quarter ? sum + part : part;
  }
  return sum;
}

// LANES / 4 results of quarter_sums to one vector: quarter q holds the four sums of the q-th.
static INLINE Vector gather_sums(const Vector* u) {
#if LANES == 16
  Vector low = shuffle<low_half>(u[0], u[1]) + shuffle<high_half>(u[0], u[1]);
  Vector high = shuffle<low_half>(u[2], u[3]) + shuffle<high_half>(u[2], u[3]);
  return shuffle<even_quarters>(low, high) + shuffle<odd_quarters>(low, high);
#elif LANES == 8
  return shuffle<low_half>(u[0], u[1]) + shuffle<high_half>(u[0], u[1]);
#else
  return u[0];
#endif
}

static INLINE float total(Vector v) {
  Four f = fold(v);
  return (f[0] + f[2]) + (f[1] + f[3]);
}

// LANES x LANES transpose, in place.
static INLINE void transpose(Vector* r) {
  for (int g = 0; g < LANES; g += 4) {
    Vector a = shuffle<low_ones>(r[g], r[g + 1]), b = shuffle<high_ones>(r[g], r[g + 1]);
    Vector c = shuffle<low_ones>(r[g + 2], r[g + 3]), d = shuffle<high_ones>(r[g + 2], r[g + 3]);
    r[g] = shuffle<low_twos>(a, c);
    r[g + 1] = shuffle<high_twos>(a, c);
    r[g + 2] = shuffle<low_twos>(b, d);
    r[g + 3] = shuffle<high_twos>(b, d);
  }
#if LANES == 16
  for (int j = 0; j < 4; j++) {
    Vector a = shuffle<low_half>(r[j], r[j + 4]), b = shuffle<high_half>(r[j], r[j + 4]);
    Vector c = shuffle<low_half>(r[j + 8], r[j + 12]), d = shuffle<high_half>(r[j + 8], r[j + 12]);
    r[j] = shuffle<even_quarters>(a, c);
    r[j + 4] = shuffle<odd_quarters>(a, c);
    r[j + 8] = shuffle<even_quarters>(b, d);
    r[j + 12] = shuffle<odd_quarters>(b, d);
  }
#elif LANES == 8
  for (int j = 0; j < 4; j++) {
    Vector a = shuffle<low_half>(r[j], r[j + 4]), b = shuffle<high_half>(r[j], r[j + 4]);
    r[j] = a;
    r[j + 4] = b;
  }
#endif
}

}  // namespace fallow::FALLOW_ENGINE
