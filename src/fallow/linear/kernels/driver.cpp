// The two products of a layer on all tokens: cuts the work into jobs and hands them to an engine.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "engine.h"
#include "fallow_kernels.h"
#include "threads.h"

#ifndef FALLOW_SOURCES
#define FALLOW_SOURCES ""
#endif

namespace fallow {

const Engine* engine(int number) {
#if defined(FALLOW_X86)
  if (number == 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &engine_avx2;
  if (number == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma"))
    return &engine_avx512;
#endif
  return number == 0 ? &engine_portable : nullptr;
}

namespace {

constexpr int64_t MOST_TOKENS = 1 << 30;

// Aligned memory that gives itself back.
class Scratch {
 public:
  explicit Scratch(int64_t floats) {
    void* p = nullptr;
    const size_t bytes = static_cast<size_t>(std::max<int64_t>(floats, 1)) * sizeof(float);
    if (posix_memalign(&p, 64, bytes) == 0) data_ = static_cast<float*>(p);
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* get() const { return data_; }

 private:
  float* data_ = nullptr;
};

int64_t round_up(int64_t size, int64_t unit) { return (size + unit - 1) / unit * unit; }

// How tokens are cut into tiles.
struct Tiling {
  int lanes, vectors;
  int64_t tokens;
  int64_t width() const { return static_cast<int64_t>(lanes) * vectors; }
  int count() const { return static_cast<int>((tokens + width() - 1) / width()); }
  int64_t first(int tile) const { return tile * width(); }
  int tokens_of(int tile) const { return static_cast<int>(std::min(width(), tokens - first(tile))); }
  int vectors_of(int tile) const { return (tokens_of(tile) + lanes - 1) / lanes; }
};

// Rows (or groups of them) cut into `parts` ranges of about equal length.
struct Ranges {
  int total, parts;
  int begin(int part) const { return static_cast<int>(static_cast<int64_t>(total) * part / parts); }
  int end(int part) const { return begin(part + 1); }
};

// One token: a dot product for each row, nothing is laid out anew.
void one_token(const int32_t* row_begin, const uint16_t* column, const float* values, const float* x, const float* bias,
               const float* start, float* y, int first, int last) {
  for (int row = first; row < last; row++) {
    float a = 0, b = 0, c = 0, d = 0;
    int32_t k = row_begin[row];
    const int32_t end = row_begin[row + 1];
    for (; k + 4 <= end; k += 4) {
      a += values[k] * x[column[k]];
      b += values[k + 1] * x[column[k + 1]];
      c += values[k + 2] * x[column[k + 2]];
      d += values[k + 3] * x[column[k + 3]];
    }
    for (; k < end; k++) a += values[k] * x[column[k]];
    float sum = (a + c) + (b + d);
    if (bias) sum += bias[row];
    if (start) sum += start[row];
    y[row] = sum;
  }
}

struct Call {
  const Engine& tools;
  const Structure& s;
  const int32_t* row_begin;
  const uint16_t* column;
  const float* values;
  int threads;
};

// Jobs for each thread where work is cut into parts of about equal length that may yet differ in weight.
constexpr int PARTS = 4;

// Rows are cut at multiples of 16, so that whole vectors are written wherever an engine's lanes end.
constexpr int UNIT = 16;

// Whether tokens are so few that copying values into another order would cost more than it saves.
bool is_few(const Engine& tools, int64_t tokens) { return tokens <= 2 * tools.lanes; }

struct Output {
  const float* bias;
  const float* start;
  float* y;
  int64_t stride;
};

void forward_one(const Call& call, const float* x, const Output& out) {
  const Structure& s = call.s;
  const Ranges ranges{s.d_out, s.nnz < 32768 ? 1 : std::min(s.d_out, call.threads * PARTS)};
  parallel(call.threads, ranges.parts, [&](int part, int) {
    one_token(call.row_begin, call.column, call.values, x, out.bias, out.start, out.y, ranges.begin(part), ranges.end(part));
  });
}

// The pieces of memory that a forward product works in, in floats.
struct ForwardSizes {
  Tiling tiling;
  bool few;
  int tiles, splits;  // where tiles do not go round, rows are shared out as well; each part lays out its tile for itself
  int64_t in, out, slots, walked;

  ForwardSizes(const Engine& tools, Kind kind, int d_out, int d_in, int64_t nnz, int64_t tokens, int threads)
      : tiling{tools.lanes, tools.vectors[kind], tokens}, few(is_few(tools, tokens)), tiles(tiling.count()) {
    splits = std::min((d_out + UNIT - 1) / UNIT, (threads + tiles - 1) / tiles);
    in = round_up(d_in * tiling.width(), 16), out = round_up(d_out, UNIT) * tiling.width();
    slots = std::min<int64_t>(threads, static_cast<int64_t>(tiles) * splits), walked = few ? 0 : nnz;
  }
  int64_t total() const { return (in + out) * slots + walked; }
};

int forward(const Call& call, const float* x, int64_t x_stride, const Output& out, int64_t tokens) {
  const Engine& tools = call.tools;
  const Structure& s = call.s;
  const Walk& walk = s.forward;
  const ForwardSizes sizes(tools, s.kind, s.d_out, s.d_in, s.nnz, tokens, call.threads);
  const Tiling& tiling = sizes.tiling;
  const bool few = sizes.few;
  const int group = few ? 1 : walk.group, splits = sizes.splits;
  const int64_t in_size = sizes.in, out_size = sizes.out;
  const Ranges rows{(s.d_out + UNIT - 1) / UNIT, 0};
  Scratch scratch((in_size + out_size) * sizes.slots), walked(sizes.walked);
  if (!scratch.get() || !walked.get()) return FALLOW_NO_MEMORY;
  if (!few) {
    const Ranges groups{walk.groups(), std::min(walk.groups(), call.threads * PARTS)};
    parallel(call.threads, groups.parts, [&](int part, int) {
      fetch_values(s, walk, call.row_begin, call.values, groups.begin(part), groups.end(part), walked.get());
    });
  }
  parallel(call.threads, sizes.tiles * splits, [&](int job, int slot) {
    const int tile = job / splits;
    const Ranges parts{rows.total, splits};
    const int first = parts.begin(job % splits) * UNIT, last = std::min(parts.end(job % splits) * UNIT, s.d_out);
    const int vectors = tiling.vectors_of(tile), count = tiling.tokens_of(tile);
    float* in = scratch.get() + slot * (in_size + out_size);
    float* y = in + in_size;
    tools.tile_in(vectors, x + tiling.first(tile) * x_stride, x_stride, count, s.d_in, in);
    if (few)
      tools.stored(vectors, call.row_begin, call.column, call.values, in, y, first, last);
    else if (s.kind == SHARED)
      tools.shared_product(vectors, walk, walked.get(), in, y, first / group, last / group);
    else
      tools.product(vectors, walk, walked.get(), in, y, first / group, (last + group - 1) / group);
    const int64_t place = tiling.first(tile) * out.stride;
    tools.tile_out(vectors, y, count, first, last, out.bias, out.start ? out.start + place : nullptr, out.y + place, out.stride);
  });
  return FALLOW_OK;
}

struct Gradients {
  float* x;
  float* values;
  float* bias;
};

// The same for a backward product: tiles of x and of g for a chunk of tokens, one tile of the input's gradient a thread.
struct BackwardSizes {
  Tiling tiling;
  int tiles, chunk;
  int64_t x, g, back;

  BackwardSizes(const Engine& tools, Kind kind, int d_out, int d_in, int64_t tokens, int threads)
      : tiling{tools.lanes, tools.vectors[kind], tokens}, tiles(tiling.count()) {
    chunk = std::min(tiles, std::max(4, 2 * threads));
    x = round_up(d_in * tiling.width(), 16), g = round_up(d_out * tiling.width(), 16);
    back = round_up(d_in, UNIT) * tiling.width();
  }
  int64_t total(int64_t nnz, int threads) const { return (x + g) * chunk + back * threads + 2 * nnz; }
};

int backward(const Call& call, const float* x, int64_t x_stride, const float* g, int64_t g_stride, const Gradients& out,
             int64_t tokens) {
  const Engine& tools = call.tools;
  const Structure& s = call.s;
  const bool shared = s.kind == SHARED;
  const Walk& back = shared ? s.forward : s.transposed;
  const BackwardSizes sizes(tools, s.kind, s.d_out, s.d_in, tokens, call.threads);
  const Tiling& tiling = sizes.tiling;
  const int tiles = sizes.tiles, chunk = sizes.chunk;
  const int64_t x_size = sizes.x, g_size = sizes.g, back_size = sizes.back;
  Scratch xs(out.values ? x_size * chunk : 0), gs(g_size * chunk), backs(out.x ? back_size * call.threads : 0);
  Scratch walked(out.x ? s.nnz : 0), gradient(out.values ? s.nnz : 0);
  if (!xs.get() || !gs.get() || !backs.get() || !walked.get() || !gradient.get()) return FALLOW_NO_MEMORY;

  const int most = call.threads * PARTS;
  const Ranges fetches{back.groups(), out.x ? std::min(back.groups(), most) : 0};
  const Ranges rows{s.rowwise.groups(), out.values || out.bias ? std::min(s.rowwise.groups(), most) : 0};
  const Ranges columns{shared ? back.blocks : (s.d_in + UNIT - 1) / UNIT, 0};
  for (int begin = 0; begin < tiles; begin += chunk) {
    // First the tiles of this chunk are laid out (and before the first of them the values fetched), then they are used.
    const int here = std::min(chunk, tiles - begin), fetching = begin ? 0 : fetches.parts, clearing = begin ? 0 : rows.parts;
    const int laying = out.values ? 2 * here : here;
    parallel(call.threads, fetching + clearing + laying, [&](int job, int) {
      if (job < fetching) {
        fetch_values(s, back, call.row_begin, call.values, fetches.begin(job), fetches.end(job), walked.get());
      } else if ((job -= fetching) < clearing) {
        const Ranges parts{s.nnz, rows.parts};
        if (out.values)
          std::memset(gradient.get() + parts.begin(job), 0, sizeof(float) * (parts.end(job) - parts.begin(job)));
      } else {
        const int number = (job -= clearing) % here, tile = begin + number;
        const int vectors = tiling.vectors_of(tile), count = tiling.tokens_of(tile);
        const int64_t first = tiling.first(tile);
        if (job < here)
          tools.tile_in(vectors, g + first * g_stride, g_stride, count, s.d_out, gs.get() + number * g_size);
        else
          tools.tile_in(vectors, x + first * x_stride, x_stride, count, s.d_in, xs.get() + number * x_size);
      }
    });
    const int splits = std::min(columns.total, (call.threads + here - 1) / here), products = out.x ? here * splits : 0;
    parallel(call.threads, products + rows.parts, [&](int job, int slot) {
      if (job < products) {
        const int number = job / splits, tile = begin + number;
        const Ranges parts{columns.total, splits};
        const int unit = shared ? back.width : UNIT, part = job % splits;
        const int first = parts.begin(part) * unit, last = std::min(parts.end(part) * unit, s.d_in);
        const int vectors = tiling.vectors_of(tile), count = tiling.tokens_of(tile);
        const float* in = gs.get() + number * g_size;
        float* tile_x = backs.get() + slot * back_size;
        if (shared)
          tools.shared_transposed(vectors, back, walked.get(), in, tile_x, parts.begin(part), parts.end(part));
        else
          tools.product(vectors, back, walked.get(), in, tile_x, first / back.group, (last + back.group - 1) / back.group);
        tools.tile_out(vectors, tile_x, count, first, last, nullptr, nullptr, out.x + tiling.first(tile) * s.d_in, s.d_in);
        return;
      }
      job -= products;
      const int first = rows.begin(job), last = rows.end(job);
      for (int number = 0; number < here; number++) {  // in the order of tokens, whatever the chunks are
        const int vectors = tiling.vectors_of(begin + number);
        const float *tile_x = xs.get() + number * x_size, *tile_g = gs.get() + number * g_size;
        if (out.values)
          (shared ? tools.shared_gradient : tools.gradient)(vectors, s.rowwise, tile_x, tile_g, gradient.get(), first, last);
        if (out.bias) tools.row_sums(vectors, tile_g, out.bias, first * s.rowwise.group, last * s.rowwise.group);
      }
      if (out.values && begin + here == tiles) return_values(s, call.row_begin, gradient.get(), first, last, out.values);
    });
  }
  return FALLOW_OK;
}

// The structure of a matrix: its own, or one that lives as long as the call. `walked` says whether its walks are needed.
class Found {
 public:
  Found(const fallow_matrix& w, bool walked) {
    code_ = w.row_begin[w.d_out] == w.nnz ? find(w, walked) : static_cast<int>(FALLOW_BAD_STRUCTURE);
  }
  ~Found() { std::free(made_.data); }
  Found(const Found&) = delete;
  Found& operator=(const Found&) = delete;
  int code() const { return code_; }
  const Structure& structure() const { return structure_; }

 private:
  int find(const fallow_matrix& w, bool walked) {
    Structure& s = structure_;
    if (w.size) {
      const bool ours = read(w.structure, w.size, &s) && s.d_out == w.d_out && s.d_in == w.d_in && s.nnz == w.nnz;
      return ours ? FALLOW_OK : FALLOW_BAD_STRUCTURE;
    }
    if (!engine(w.engine)) return FALLOW_BAD_STRUCTURE;
    if (!walked) {
      s.kind = MIXED, s.engine = w.engine, s.d_out = w.d_out, s.d_in = w.d_in, s.nnz = w.nnz;
      return FALLOW_OK;
    }
    const int code = build(w.engine, w.d_out, w.d_in, w.row_begin, w.column, 0, &made_);
    if (code != FALLOW_OK) return code;
    return read(made_.data, made_.size, &s) ? FALLOW_OK : FALLOW_BAD_STRUCTURE;
  }

  Packed made_{nullptr, 0};
  Structure structure_{};
  int code_;
};


}  // namespace
}  // namespace fallow

using namespace fallow;

const char* fallow_sources() { return FALLOW_SOURCES; }
int fallow_num_engines() { return num_engines; }
const char* fallow_engine_name(int number) { return engine(number) ? engine(number)->name : nullptr; }
int fallow_best_engine() {
  int best = 0;
  for (int number = 0; number < num_engines; number++)
    if (engine(number)) best = number;
  return best;
}

int fallow_structure_build(int number, int32_t d_out, int32_t d_in, const int32_t* row_begin, const uint16_t* column, int group,
                           int32_t** data, int64_t* size) {
  Packed packed{nullptr, 0};
  const int code = build(number, d_out, d_in, row_begin, column, group, &packed);
  *data = packed.data;
  *size = packed.size;
  return code;
}

int64_t fallow_structure_expected_bytes(int number, int32_t d_out, int32_t d_in, int64_t nnz, int shared) {
  return expected_bytes(number, d_out, d_in, nnz, shared != 0);
}

int64_t fallow_scratch_bytes(int number, int32_t d_out, int32_t d_in, int64_t nnz, int shared, int64_t tokens, int threads) {
  const Engine* tools = engine(number);
  if (!tools || tokens < 1) return 0;
  const Kind kind = shared ? SHARED : MIXED;
  threads = std::max(threads, 1);
  const int64_t ahead = ForwardSizes(*tools, kind, d_out, d_in, nnz, tokens, threads).total();
  const int64_t back = BackwardSizes(*tools, kind, d_out, d_in, tokens, threads).total(nnz, threads);
  return static_cast<int64_t>(sizeof(float)) * std::max(ahead, back);
}

void fallow_structure_free(int32_t* data) { std::free(data); }

int fallow_structure_facts(const int32_t* structure, int64_t size, int32_t facts[4]) {
  Structure s;
  if (!read(structure, size, &s)) return FALLOW_BAD_STRUCTURE;
  const int32_t found[4] = {s.kind, s.forward.group, s.kind == SHARED ? s.forward.group : s.transposed.group, s.engine};
  std::memcpy(facts, found, sizeof(found));
  return FALLOW_OK;
}

int fallow_forward(const fallow_matrix* w, const float* x, int64_t x_stride, const float* bias, const float* start, float* y,
                   int64_t y_stride, int64_t tokens, int threads) {
  const bool few = !w->size && engine(w->engine) && is_few(*engine(w->engine), tokens);
  const Found found(*w, !few);
  if (found.code() != FALLOW_OK) return found.code();
  const Structure& s = found.structure();
  if (tokens < 0 || tokens > MOST_TOKENS) return FALLOW_BAD_SIZE;
  if (tokens == 0) return FALLOW_OK;
  const Call call{*engine(s.engine), s, w->row_begin, w->column, w->values, std::max(threads, 1)};
  const Output out{bias, start, y, y_stride};
  if (tokens == 1) return forward_one(call, x, out), FALLOW_OK;
  return forward(call, x, x_stride, out, tokens);
}

int fallow_one_token(const fallow_matrix* w, const float* a, const float* b, int32_t rank, float scale, const float* x,
                     const float* bias, float* y, int threads) {
  const Found found(*w, false);
  if (found.code() != FALLOW_OK) return found.code();
  if (rank < 0) return FALLOW_BAD_SIZE;
  const Structure& s = found.structure();
  const Call call{*engine(s.engine), s, w->row_begin, w->column, w->values, std::max(threads, 1)};
  Scratch inner(rank);
  if (!inner.get()) return FALLOW_NO_MEMORY;
  const auto parts_of = [&](int rows, int64_t numbers) {
    return Ranges{rows, numbers < 32768 ? 1 : std::min(rows, call.threads * PARTS)};
  };
  std::memset(inner.get(), 0, sizeof(float) * static_cast<size_t>(rank));
  const Ranges within = parts_of(rank, int64_t{rank} * s.d_in), rows = parts_of(s.d_out, int64_t{rank} * s.d_out + s.nnz);
  parallel(call.threads, within.parts, [&](int part, int) {
    call.tools.dots(a, s.d_in, x, scale, inner.get(), within.begin(part), within.end(part));
  });
  parallel(call.threads, rows.parts, [&](int part, int) {
    const int first = rows.begin(part), last = rows.end(part);
    one_token(call.row_begin, call.column, call.values, x, bias, nullptr, y, first, last);
    call.tools.dots(b, rank, inner.get(), 1.0f, y, first, last);
  });
  return FALLOW_OK;
}

int fallow_backward(const fallow_matrix* w, const float* x, int64_t x_stride, const float* g, int64_t g_stride, float* grad_x,
                    float* grad_values, float* grad_bias, int64_t tokens, int threads) {
  const Found found(*w, tokens > 0);
  if (found.code() != FALLOW_OK) return found.code();
  const Structure& s = found.structure();
  if (tokens < 0 || tokens > MOST_TOKENS) return FALLOW_BAD_SIZE;
  if (grad_bias) std::memset(grad_bias, 0, static_cast<size_t>(s.d_out) * sizeof(float));
  if (tokens == 0) {
    if (grad_values) std::memset(grad_values, 0, static_cast<size_t>(s.nnz) * sizeof(float));
    return FALLOW_OK;
  }
  const Call call{*engine(s.engine), s, w->row_begin, w->column, w->values, std::max(threads, 1)};
  return backward(call, x, x_stride, g, g_stride, Gradients{grad_x, grad_values, grad_bias}, tokens);
}
