// Products of a sparse matrix with a tile: y[row] = sum over entries of value * x[column], in registers over a block.
#pragma once
#include "engine.h"
#include "lanes.h"

namespace fallow::FALLOW_ENGINE {

static INLINE const Vector* vectors_at(const float* tile, int64_t place) { return reinterpret_cast<const Vector*>(tile + place); }
static INLINE Vector* vectors_at(float* tile, int64_t place) { return reinterpret_cast<Vector*>(tile + place); }

template <int ROWS, int VECTORS>
static INLINE void read_rows(Vector (&rows)[ROWS][VECTORS], const float* tile, int64_t first) {
  const Vector* in = vectors_at(tile, first * VECTORS * LANES);
  for (int row = 0; row < ROWS; row++)
    for (int j = 0; j < VECTORS; j++) rows[row][j] = in[row * VECTORS + j];
}

template <int ROWS, int VECTORS>
static INLINE void write_rows(const Vector (&rows)[ROWS][VECTORS], float* tile, int64_t first) {
  Vector* out = vectors_at(tile, first * VECTORS * LANES);
  for (int row = 0; row < ROWS; row++)
    for (int j = 0; j < VECTORS; j++) out[row * VECTORS + j] = rows[row][j];
}

template <int ROWS, int VECTORS>
static INLINE void clear_rows(Vector (&rows)[ROWS][VECTORS]) {
  for (int row = 0; row < ROWS; row++)
    for (int j = 0; j < VECTORS; j++) rows[row][j] = Vector{};
}

// One row at a time. Bound by loads: each multiply-add reads its activations.
template <int VECTORS>
static void product_by_row(const Walk& walk, const float* values, const float* x, float* y, int first, int last) {
  constexpr int T = VECTORS * LANES;
  for (int block = 0; block < walk.blocks; block++) {
    const float* in = x + static_cast<int64_t>(block) * walk.width * T;
    const int32_t* begin = walk.first_local + static_cast<int64_t>(block) * walk.rows;
    for (int row = first; row < last; row++) {
      Vector sum[1][VECTORS];
      block ? read_rows(sum, y, row) : clear_rows(sum);
      for (int32_t k = begin[row]; k < begin[row + 1]; k++) {
        const Vector weight = broadcast(values[k]);
        const Vector* token = vectors_at(in, walk.local[k] * T);
        for (int j = 0; j < VECTORS; j++) sum[0][j] += weight * token[j];
      }
      write_rows(sum, y, row);
    }
  }
}

// GROUP rows at a time; columns of equal pattern follow one another, so each loop knows its rows when it is compiled.
template <int VECTORS, int GROUP, int PATTERN>
static INLINE void columns_of_pattern(Vector (&sum)[GROUP][VECTORS], const float* x, int count, const uint8_t*& local,
                                      const float*& values) {
  constexpr int T = VECTORS * LANES, rows_met = __builtin_popcount(PATTERN);
  for (int q = 0; q < count; q++) {
    const Vector* token = vectors_at(x, local[q] * T);
    for (int row = 0, entry = 0; row < GROUP; row++) {
      if (PATTERN >> row & 1) {
        const Vector weight = broadcast(values[entry++]);
        for (int j = 0; j < VECTORS; j++) sum[row][j] += weight * token[j];
      }
    }
    values += rows_met;
  }
  local += count;
}

template <int VECTORS, int GROUP, int... PATTERN>
static INLINE void all_patterns(Vector (&sum)[GROUP][VECTORS], const float* x, const uint8_t* counts, const uint8_t* local,
                                const float* values, std::integer_sequence<int, PATTERN...>) {
  (columns_of_pattern<VECTORS, GROUP, PATTERN + 1>(sum, x, counts[PATTERN], local, values), ...);
}

template <int VECTORS, int GROUP>
static void product_by_group(const Walk& walk, const float* values, const float* x, float* y, int first, int last) {
  constexpr int T = VECTORS * LANES, patterns = (1 << GROUP) - 1;
  const int groups = walk.groups();
  for (int block = 0; block < walk.blocks; block++) {
    const float* in = x + static_cast<int64_t>(block) * walk.width * T;
    for (int group = first; group < last; group++) {
      const int64_t place = static_cast<int64_t>(block) * groups + group;
      Vector sum[GROUP][VECTORS];
      block ? read_rows(sum, y, static_cast<int64_t>(group) * GROUP) : clear_rows(sum);
      all_patterns<VECTORS, GROUP>(sum, in, walk.counts + place * patterns, walk.local + walk.first_local[place],
                                   values + walk.first_value[place], std::make_integer_sequence<int, patterns>());
      write_rows(sum, y, static_cast<int64_t>(group) * GROUP);
    }
  }
}

// Four rows with the same columns: each load serves four multiply-adds.
template <int VECTORS>
static void shared_product(const Walk& walk, const float* values, const float* x, float* y, int first, int last) {
  constexpr int T = VECTORS * LANES;
  for (int block = 0; block < walk.blocks; block++) {
    const float* in = x + static_cast<int64_t>(block) * walk.width * T;
    const int32_t* begin = walk.first_local + static_cast<int64_t>(block) * walk.groups();
    for (int group = first; group < last; group++) {
      Vector sum[4][VECTORS];
      block ? read_rows(sum, y, static_cast<int64_t>(group) * 4) : clear_rows(sum);
      for (int32_t k = begin[group]; k < begin[group + 1]; k++) {
        Vector token[1][VECTORS];
        read_rows(token, in, walk.local[k]);
        for (int row = 0; row < 4; row++) {
          const Vector weight = broadcast(values[4 * static_cast<int64_t>(k) + row]);
          for (int j = 0; j < VECTORS; j++) sum[row][j] += weight * token[0][j];
        }
      }
      write_rows(sum, y, static_cast<int64_t>(group) * 4);
    }
  }
}

// The transpose of such a matrix, column by column of it: four rows of y stay in registers; rows of x are read, added to and
// written. A block of columns writes only its own rows of x.
template <int VECTORS>
static void shared_transposed(const Walk& walk, const float* values, const float* y, float* x, int first, int last) {
  constexpr int T = VECTORS * LANES;
  const int groups = walk.groups();
  for (int block = first; block < last; block++) {
    const int begin_column = block * walk.width;
    const int end_column = begin_column + walk.width < walk.columns ? begin_column + walk.width : walk.columns;
    float* out = x + static_cast<int64_t>(begin_column) * T;
    __builtin_memset(out, 0, static_cast<size_t>(end_column - begin_column) * T * sizeof(float));
    const int32_t* begin = walk.first_local + static_cast<int64_t>(block) * groups;
    for (int group = 0; group < groups; group++) {
      Vector token[4][VECTORS];
      read_rows(token, y, static_cast<int64_t>(group) * 4);
      for (int32_t k = begin[group]; k < begin[group + 1]; k++) {
        Vector sum[1][VECTORS];
        read_rows(sum, out, walk.local[k]);
        for (int row = 0; row < 4; row++) {
          const Vector weight = broadcast(values[4 * static_cast<int64_t>(k) + row]);
          for (int j = 0; j < VECTORS; j++) sum[0][j] += weight * token[row][j];
        }
        write_rows(sum, out, walk.local[k]);
      }
    }
  }
}

// The support as it is stored, for so few tokens that copying its values into another order would not pay.
template <int VECTORS>
static void stored_product(const int32_t* row_begin, const uint16_t* column, const float* values, const float* x, float* y,
                           int first, int last) {
  constexpr int T = VECTORS * LANES;
  for (int row = first; row < last; row++) {
    Vector sum[1][VECTORS];
    clear_rows(sum);
    for (int32_t k = row_begin[row]; k < row_begin[row + 1]; k++) {
      const Vector weight = broadcast(values[k]);
      const Vector* token = vectors_at(x, static_cast<int64_t>(column[k]) * T);
      for (int j = 0; j < VECTORS; j++) sum[0][j] += weight * token[j];
    }
    write_rows(sum, y, row);
  }
}

}  // namespace fallow::FALLOW_ENGINE
