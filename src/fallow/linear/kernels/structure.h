// What is derived once from a support, so that a product can walk it in the order that suits the caches.
//
// A product goes through the matrix in blocks of `width` columns: the part of the activations that a block meets stays in
// the first-level cache while all rows pass by. Entries of a block come row by row (or group of rows by group of rows), and
// lie in memory in exactly that order. Values live in a parameter of another order, that of the support; they are copied into
// the order of a walk once a call, which costs as much as one or two tokens do.
#pragma once
#include <cstdint>

namespace fallow {

enum Kind : int32_t {
  MIXED = 0,   // any support
  SHARED = 1,  // rows 4g to 4g + 3 have the same columns, for every g: `vector` and `block` supports
};

// The walk over one matrix (W for the forward pass, its transpose for the gradient of the input).
struct Walk {
  int32_t rows, columns;
  int32_t group;   // rows that are walked together: 1, 2 or 4
  int32_t width;   // columns of a block, at most 256
  int32_t blocks;

  // Columns that a block and a group meet, relative to the block: local[first_local[p]] to local[first_local[p + 1]], where p
  // is block * groups + group. With group 1 there is one value a column, in a SHARED structure there are four.
  const int32_t* first_local;
  const uint8_t* local;

  // In a MIXED structure with groups of 2 or 4, some rows of the group meet a column and some do not; which ones is its
  // pattern, a number from 1 to 2^group - 1 with one bit a row. Columns of equal pattern stand together, so that each is
  // loaded once for all its rows.
  const uint8_t* counts;       // [p][pattern - 1]: columns
  const int32_t* first_value;  // [p], and the end

  // Where the values stand in the parameter. In the walks over W with group 1, and in a SHARED structure, null: there the
  // values of a row keep their order. In those with larger groups the place counts from the first entry of the group's first
  // row, in the transpose from the first entry of the entry's row.
  const uint16_t* rank;

  int32_t groups() const { return (rows + group - 1) / group; }
};

struct Structure {
  Kind kind;
  int32_t engine;
  int32_t d_out, d_in, nnz;
  Walk forward;     // rows are outputs
  Walk rowwise;     // the same with group 1 (4 in a SHARED structure), for the gradient of the values
  Walk transposed;  // rows are inputs; empty in a SHARED structure, which goes both ways
};

// A structure as one piece of memory that can be copied and kept in a tensor.
struct Packed {
  int32_t* data;
  int64_t size;  // in int32
};

// Builds it. `group` is 0 (chosen by density) or 1, 2, 4. Returns 0, or a code of fallow_kernels.h.
int build(int engine, int d_out, int d_in, const int32_t* row_begin, const uint16_t* column, int group, Packed* out);

// Bytes that it would have for a random support.
int64_t expected_bytes(int engine, int d_out, int d_in, int64_t nnz, bool shared);

// Reads it; false when it was not made by this version for this matrix.
bool read(const int32_t* data, int64_t size, Structure* out);

// Copies values, in the parameter's order, into the order of a walk: groups first to last, all blocks.
void fetch_values(const Structure& s, const Walk& walk, const int32_t* row_begin, const float* values, int first, int last,
                  float* walked);

// The way back for the rowwise walk: groups first to last.
void return_values(const Structure& s, const int32_t* row_begin, const float* walked, int first, int last, float* values);

}  // namespace fallow
