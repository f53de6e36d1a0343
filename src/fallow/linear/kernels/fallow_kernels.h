// The interface that Python loads. Plain C: pointers, sizes and codes; neither Python nor torch.
//
// Shapes: o = d_out, i = d_in, n = entries, t = tokens. Activations are row-major with rows `stride` floats apart; they need no
// alignment beyond that of a float. `threads` never changes a result: each number is computed whole by one thread, in one order.
#pragma once
#include <cstdint>

#if defined(_WIN32)
#define FALLOW_API extern "C" __declspec(dllexport)
#else
#define FALLOW_API extern "C" __attribute__((visibility("default")))
#endif

enum fallow_code {
  FALLOW_OK = 0,
  FALLOW_NO_MEMORY = 1,
  FALLOW_BAD_SUPPORT = 2,    // pointers that do not ascend, columns outside the matrix or not ascending in their row
  FALLOW_BAD_STRUCTURE = 3,  // not made by this version, or for another engine or support
  FALLOW_BAD_SIZE = 4,       // a size that is not served
};

// The sources that this library was built from, as a checksum.
FALLOW_API const char* fallow_sources();

// Engines (instruction sets) by number; a name is null where the compiler or the processor does not have it.
FALLOW_API int fallow_num_engines();
FALLOW_API const char* fallow_engine_name(int engine);
FALLOW_API int fallow_best_engine();

// Builds the structure of a support with row pointers row_begin_o (o + 1) and columns_n. `group` is 0, or forces 1, 2 or 4 rows
// at a time. Call it, copy *size int32 from *data, then fallow_structure_free(*data).
FALLOW_API int fallow_structure_build(int engine, int32_t d_out, int32_t d_in, const int32_t* row_begin, const uint16_t* column,
                                      int group, int32_t** data, int64_t* size);
FALLOW_API void fallow_structure_free(int32_t* data);

// Bytes that a structure of a random support would have, without drawing it.
FALLOW_API int64_t fallow_structure_expected_bytes(int engine, int32_t d_out, int32_t d_in, int64_t nnz, int shared);

// Bytes that the larger of the two products allocates while it works: tiles, and values in the order of a walk.
FALLOW_API int64_t fallow_scratch_bytes(int engine, int32_t d_out, int32_t d_in, int64_t nnz, int shared, int64_t tokens,
                                        int threads);

// A support and its values, as both products want them. Sizes are checked against the structure. Without one (size 0)
// it is derived for each call that needs it, which costs little where entries are few, and nothing is kept.
struct fallow_matrix {
  const int32_t* structure;
  int64_t size;  // of the structure, in int32
  int32_t d_out, d_in, nnz;
  const int32_t* row_begin;
  const uint16_t* column;
  const float* values;
  int32_t engine;  // for a matrix without a structure
};

// Facts of a structure: kind (0 mixed, 1 shared), rows that are walked together forward and back, engine.
FALLOW_API int fallow_structure_facts(const int32_t* structure, int64_t size, int32_t facts[4]);

// y_to = x_ti W^T + bias_o + start_to; bias and start may be null, start has the stride of y.
FALLOW_API int fallow_forward(const fallow_matrix* w, const float* x, int64_t x_stride, const float* bias, const float* start,
                              float* y, int64_t y_stride, int64_t tokens, int threads);

// y_o = scale * B_or (A_ri x_i) + W x_i + bias_o for one token; bias may be null. One call, since for a small layer calls are most
// of the time that a token takes.
FALLOW_API int fallow_one_token(const fallow_matrix* w, const float* a, const float* b, int32_t rank, float scale, const float* x,
                                const float* bias, float* y, int threads);

// From g_to: grad_x_ti = g W (rows d_in apart), grad_values_n at the support, grad_bias_o; each is left out when its pointer is
// null.
FALLOW_API int fallow_backward(const fallow_matrix* w, const float* x, int64_t x_stride, const float* g, int64_t g_stride,
                               float* grad_x, float* grad_values, float* grad_bias, int64_t tokens, int threads);
