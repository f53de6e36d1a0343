// What one instruction set offers: pieces of work on one tile, without threads or memory of their own.
//
// A tile holds `vectors` x lanes tokens, feature by feature: [feature][token]. The last tile of a batch may be narrower; lanes
// past the last token are zero.
#pragma once
#include <cstdint>

#include "structure.h"

namespace fallow {

struct Engine {
  const char* name;
  int lanes;
  int vectors[2];  // by Kind: vectors of a full tile
  int max_group;   // the largest Walk::group that is worth its while

  // x (tokens, features) with rows `stride` apart -> tile; `count` of at most vectors * lanes tokens exist.
  void (*tile_in)(int vectors, const float* x, int64_t stride, int count, int features, float* tile);
  // tile -> y (tokens, features), features first to last, plus bias and start where given; start has the form of y.
  void (*tile_out)(int vectors, const float* tile, int count, int first, int last, const float* bias, const float* start,
                   float* y, int64_t stride);

  // Values and gradients stand in the order of the walk. y = W x on a tile, groups first to last of the walk.
  void (*product)(int vectors, const Walk& walk, const float* values, const float* x, float* y, int first, int last);
  // The same in a SHARED structure, and there x = W^T y, column blocks first to last.
  void (*shared_product)(int vectors, const Walk& walk, const float* values, const float* x, float* y, int first, int last);
  void (*shared_transposed)(int vectors, const Walk& walk, const float* values, const float* y, float* x, int first, int last);

  // gradient += sum over tokens of g[row] x[column] for each entry of the rowwise walk, groups first to last.
  void (*gradient)(int vectors, const Walk& walk, const float* x, const float* g, float* gradient, int first, int last);
  void (*shared_gradient)(int vectors, const Walk& walk, const float* x, const float* g, float* gradient, int first, int last);

  // y = S x for few tokens, rows first to last of the support as it is stored.
  void (*stored)(int vectors, const int32_t* row_begin, const uint16_t* column, const float* values, const float* x, float* y,
                 int first, int last);

  // sums[r] += sum over tokens of g[r], rows first to last.
  void (*row_sums)(int vectors, const float* g, float* sums, int first, int last);

  // y[r] += scale * (row r of a dense matrix, times x), rows first to last.
  void (*dots)(const float* matrix, int columns, const float* x, float scale, float* y, int first, int last);
};

// Engines by number, best last; null where the compiler or the processor has none.
const Engine* engine(int number);
constexpr int num_engines = 3;

extern const Engine engine_portable;
extern const Engine engine_avx2;
extern const Engine engine_avx512;

}  // namespace fallow
