// One engine: every kernel for each width of tile. The including file sets FALLOW_ENGINE (its namespace), LANES,
// VECTORS_MIXED and VECTORS_SHARED (vectors of a full tile), and MAX_GROUP.
#pragma once
#include "factors.h"
#include "gradient.h"
#include "product.h"
#include "relayout.h"

namespace fallow::FALLOW_ENGINE {

// Calls CALL(V) with `vectors` as a constant.
#define FOR_VECTORS(most, CALL)        \
  switch (vectors) {                   \
    case 1: CALL(1); break;            \
    case 2: CALL(most < 2 ? 1 : 2); break; \
    case 3: CALL(most < 3 ? 1 : 3); break; \
    case 4: CALL(most < 4 ? 1 : 4); break; \
    case 5: CALL(most < 5 ? 1 : 5); break; \
    case 6: CALL(most < 6 ? 1 : 6); break; \
    case 7: CALL(most < 7 ? 1 : 7); break; \
    case 8: CALL(most < 8 ? 1 : 8); break; \
  }

static void product(int vectors, const Walk& walk, const float* values, const float* x, float* y, int first, int last) {
#if MAX_GROUP >= 4
  if (walk.group == 4) {
#define CALL(V) product_by_group<V, 4>(walk, values, x, y, first, last)
    FOR_VECTORS(VECTORS_MIXED, CALL)
#undef CALL
    return;
  }
  if (walk.group == 2) {
#define CALL(V) product_by_group<V, 2>(walk, values, x, y, first, last)
    FOR_VECTORS(VECTORS_MIXED, CALL)
#undef CALL
    return;
  }
#endif
#define CALL(V) product_by_row<V>(walk, values, x, y, first, last)
  FOR_VECTORS(VECTORS_MIXED, CALL)
#undef CALL
}

static void product_shared(int vectors, const Walk& walk, const float* values, const float* x, float* y, int first, int last) {
#define CALL(V) shared_product<V>(walk, values, x, y, first, last)
  FOR_VECTORS(VECTORS_SHARED, CALL)
#undef CALL
}

static void transposed_shared(int vectors, const Walk& walk, const float* values, const float* y, float* x, int first, int last) {
#define CALL(V) shared_transposed<V>(walk, values, y, x, first, last)
  FOR_VECTORS(VECTORS_SHARED, CALL)
#undef CALL
}

static void gradient(int vectors, const Walk& walk, const float* x, const float* g, float* out, int first, int last) {
#define CALL(V) gradient_by_row<V>(walk, x, g, out, first, last)
  FOR_VECTORS(VECTORS_MIXED, CALL)
#undef CALL
}

static void gradient_shared(int vectors, const Walk& walk, const float* x, const float* g, float* out, int first, int last) {
#define CALL(V) shared_gradient<V>(walk, x, g, out, first, last)
  FOR_VECTORS(VECTORS_SHARED, CALL)
#undef CALL
}

static void stored(int vectors, const int32_t* row_begin, const uint16_t* column, const float* values, const float* x, float* y,
                   int first, int last) {
#define CALL(V) stored_product<V>(row_begin, column, values, x, y, first, last)
  FOR_VECTORS(8, CALL)
#undef CALL
}

static void row_sums(int vectors, const float* g, float* sums, int first, int last) {
#define CALL(V) sum_rows<V>(g, sums, first, last)
  FOR_VECTORS(8, CALL)
#undef CALL
}

}  // namespace fallow::FALLOW_ENGINE

#define FALLOW_DEFINE_ENGINE(variable, text)                                        \
  namespace fallow {                                                                \
  extern const Engine variable = {text,                                             \
                                  LANES,                                            \
                                  {VECTORS_MIXED, VECTORS_SHARED},                  \
                                  MAX_GROUP,                                        \
                                  FALLOW_ENGINE::tile_in,                           \
                                  FALLOW_ENGINE::tile_out,                          \
                                  FALLOW_ENGINE::product,                           \
                                  FALLOW_ENGINE::product_shared,                    \
                                  FALLOW_ENGINE::transposed_shared,                 \
                                  FALLOW_ENGINE::gradient,                          \
                                  FALLOW_ENGINE::gradient_shared,                   \
                                  FALLOW_ENGINE::stored,                            \
                                  FALLOW_ENGINE::row_sums,                          \
                                  FALLOW_ENGINE::dots};                             \
  }
