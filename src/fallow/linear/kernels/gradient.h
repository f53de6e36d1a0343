// The gradient of the values: one dot product over tokens for each entry, so nothing dense of d_out x d_in is ever built.
#pragma once
#include "product.h"

namespace fallow::FALLOW_ENGINE {

template <int VECTORS>
static INLINE Vector dot(const Vector (&g)[1][VECTORS], const float* x, int column) {
  const Vector* token = vectors_at(x, column * (VECTORS * LANES));
  Vector sum = g[0][0] * token[0];
  for (int j = 1; j < VECTORS; j++) sum += g[0][j] * token[j];
  return sum;
}

// A row of g stays in registers. LANES entries are added up across their lanes together, which hides most of that cost.
template <int VECTORS>
static void gradient_by_row(const Walk& walk, const float* x, const float* g, float* gradient, int first, int last) {
  constexpr int T = VECTORS * LANES;
  for (int block = 0; block < walk.blocks; block++) {
    const float* in = x + static_cast<int64_t>(block) * walk.width * T;
    const int32_t* begin = walk.first_local + static_cast<int64_t>(block) * walk.rows;
    for (int row = first; row < last; row++) {
      Vector token[1][VECTORS];
      read_rows(token, g, row);
      const auto four_sums = [&](const uint8_t* c, int second, int third, int fourth) {
        return quarter_sums(dot(token, in, c[0]), dot(token, in, c[second]), dot(token, in, c[third]), dot(token, in, c[fourth]));
      };
      int32_t k = begin[row];
      const int32_t end = begin[row + 1];
      for (; k + LANES <= end; k += LANES) {
        Vector sums[LANES / 4];
        for (int q = 0; q < LANES / 4; q++) sums[q] = four_sums(walk.local + k + 4 * q, 1, 2, 3);
        store(gradient + k, load(gradient + k) + gather_sums(sums));
      }
      for (; k + 4 <= end; k += 4)
        store_four(gradient + k, load_four(gradient + k) + fold(four_sums(walk.local + k, 1, 2, 3)));
      if (const int left = end - k) {  // one to three: the first stands in for those that are missing
        const Four sums = fold(four_sums(walk.local + k, left > 1 ? 1 : 0, left > 2 ? 2 : 0, 0));
        for (int q = 0; q < left; q++) gradient[k + q] += sums[q];
      }
    }
  }
}

// Four rows of g in registers, four dot products for each column that is loaded.
template <int VECTORS>
static void shared_gradient(const Walk& walk, const float* x, const float* g, float* gradient, int first, int last) {
  constexpr int T = VECTORS * LANES;
  for (int block = 0; block < walk.blocks; block++) {
    const float* in = x + static_cast<int64_t>(block) * walk.width * T;
    const int32_t* begin = walk.first_local + static_cast<int64_t>(block) * walk.groups();
    for (int group = first; group < last; group++) {
      Vector token[4][VECTORS];
      read_rows(token, g, static_cast<int64_t>(group) * 4);
      const auto four_sums = [&](int column) {
        const Vector* at = vectors_at(in, column * T);
        Vector here = at[0];
        Vector sum[4] = {token[0][0] * here, token[1][0] * here, token[2][0] * here, token[3][0] * here};
        for (int j = 1; j < VECTORS; j++) {
          here = at[j];
          for (int row = 0; row < 4; row++) sum[row] += token[row][j] * here;
        }
        return quarter_sums(sum[0], sum[1], sum[2], sum[3]);
      };
      int32_t k = begin[group];
      const int32_t end = begin[group + 1];
      for (; k + LANES / 4 <= end; k += LANES / 4) {
        Vector sums[LANES / 4];
        for (int q = 0; q < LANES / 4; q++) sums[q] = four_sums(walk.local[k + q]);
        float* out = gradient + 4 * static_cast<int64_t>(k);
        store(out, load(out) + gather_sums(sums));
      }
      for (; k < end; k++) {
        float* out = gradient + 4 * static_cast<int64_t>(k);
        store_four(out, load_four(out) + fold(four_sums(walk.local[k])));
      }
    }
  }
}

template <int VECTORS>
static void sum_rows(const float* g, float* sums, int first, int last) {
  for (int row = first; row < last; row++) {
    const Vector* in = vectors_at(g, static_cast<int64_t>(row) * VECTORS * LANES);
    Vector sum = in[0];
    for (int j = 1; j < VECTORS; j++) sum += in[j];
    sums[row] += total(sum);
  }
}

}  // namespace fallow::FALLOW_ENGINE
