// The factors of a weight on one token: dense products of a matrix with a vector.
#pragma once
#include "engine.h"
#include "lanes.h"

namespace fallow::FALLOW_ENGINE {

// Four rows at a time, so that each load of x serves four and the four sums are added up together.
static void dots(const float* matrix, int columns, const float* x, float scale, float* y, int first, int last) {
  const int whole = columns / LANES * LANES, rest = columns - whole;
  const Vector tail = load_part(x + whole, rest);
  int row = first;
  for (; row + 4 <= last; row += 4) {
    const float* in[4];
    Vector sum[4];
    for (int r = 0; r < 4; r++) {
      in[r] = matrix + static_cast<int64_t>(row + r) * columns;
      sum[r] = rest ? load_part(in[r] + whole, rest) * tail : Vector{};
    }
    for (int c = 0; c < whole; c += LANES) {
      const Vector token = load(x + c);
      for (int r = 0; r < 4; r++) sum[r] += load(in[r] + c) * token;
    }
    const Four sums = fold(quarter_sums(sum[0], sum[1], sum[2], sum[3]));
    for (int r = 0; r < 4; r++) y[row + r] += scale * sums[r];
  }
  for (; row < last; row++) {
    const float* in = matrix + static_cast<int64_t>(row) * columns;
    Vector sum = rest ? load_part(in + whole, rest) * tail : Vector{};
    for (int c = 0; c < whole; c += LANES) sum += load(in + c) * load(x + c);
    y[row] += scale * total(sum);
  }
}

}  // namespace fallow::FALLOW_ENGINE
