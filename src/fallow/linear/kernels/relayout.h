// Between the row-major activations of torch and tiles, LANES x LANES at a time. Whole cache lines are read and written, so
// strides that fall into one set of the cache do no harm.
#pragma once
#include "engine.h"
#include "lanes.h"

namespace fallow::FALLOW_ENGINE {

static void tile_in(int vectors, const float* x, int64_t stride, int count, int features, float* tile) {
  const int64_t T = static_cast<int64_t>(vectors) * LANES;
  for (int feature = 0; feature < features; feature += LANES) {
    const int width = features - feature < LANES ? features - feature : LANES;
    for (int j = 0; j < vectors; j++) {
      const int rest = count - j * LANES, tokens = rest < 0 ? 0 : rest < LANES ? rest : LANES;
      const float* in = x + static_cast<int64_t>(j) * LANES * stride + feature;
      Vector rows[LANES];
      if (tokens == LANES && width == LANES) {
        for (int t = 0; t < LANES; t++) rows[t] = load(in + t * stride);
      } else {
        for (int t = 0; t < LANES; t++) rows[t] = t < tokens ? load_part(in + t * stride, width) : Vector{};
      }
      transpose(rows);
      for (int f = 0; f < width; f++) *reinterpret_cast<Vector*>(tile + (feature + f) * T + j * LANES) = rows[f];
    }
  }
}

static void tile_out(int vectors, const float* tile, int count, int first, int last, const float* bias, const float* start,
                     float* y, int64_t stride) {
  const int64_t T = static_cast<int64_t>(vectors) * LANES;
  for (int feature = first; feature < last; feature += LANES) {
    const int width = last - feature < LANES ? last - feature : LANES;
    const Vector shift = bias ? load_part(bias + feature, width) : Vector{};
    for (int j = 0; j * LANES < count; j++) {
      const int tokens = count - j * LANES < LANES ? count - j * LANES : LANES;
      const int64_t place = static_cast<int64_t>(j) * LANES * stride + feature;
      Vector rows[LANES];
      for (int f = 0; f < LANES; f++)
        rows[f] = f < width ? *reinterpret_cast<const Vector*>(tile + (feature + f) * T + j * LANES) : Vector{};
      transpose(rows);
      if (width == LANES) {
        for (int t = 0; t < tokens; t++) {
          Vector out = rows[t] + shift;
          if (start) out += load(start + place + t * stride);
          store(y + place + t * stride, out);
        }
      } else {
        for (int t = 0; t < tokens; t++) {
          Vector out = rows[t] + shift;
          if (start) out += load_part(start + place + t * stride, width);
          store_part(y + place + t * stride, out, width);
        }
      }
    }
  }
}

}  // namespace fallow::FALLOW_ENGINE
