// The kernels on random supports, for the sanitizers: every engine, kind of support, odd sizes, one and two threads, activations
// that are not aligned. Buffers have exactly the size that the interface asks for, so that a step outside is seen.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "fallow_kernels.h"

namespace {

std::mt19937 draws(0);
int below(int n) { return static_cast<int>(draws() % static_cast<unsigned>(n)); }
float number() { return static_cast<float>(draws() % 2001) / 1000.0f - 1.0f; }

struct Floats {
  std::unique_ptr<float[]> data;
  explicit Floats(size_t n) : data(new float[n]) {
    for (size_t k = 0; k < n; k++) data[k] = number();
  }
  float* get() const { return data.get(); }
};

int failures = 0;
void expect_near(double ours, double reference, const char* what) {
  if (std::abs(ours - reference) > 1e-3 * (1 + std::abs(reference)) && failures++ < 10)
    std::printf("%s: %g, but %g is right\n", what, ours, reference);
}

void once(int engine) {
  const int height = below(3) ? 1 : 4, rows = (1 + below(40)) * height, columns = 1 + below(below(2) ? 30 : 400);
  const int percent = below(101), tokens = below(5) ? 1 + below(140) : 1, apart = below(3);
  std::vector<int32_t> begin{0};
  std::vector<uint16_t> column, row;
  for (int r = 0; r < rows; r++) {
    if (r % height == 0) {
      row.clear();
      for (int c = 0; c < columns; c++)
        if (below(100) < percent) row.push_back(static_cast<uint16_t>(c));
    }
    column.insert(column.end(), row.begin(), row.end());
    begin.push_back(static_cast<int32_t>(column.size()));
  }
  const int nnz = begin.back(), groups[] = {0, 0, 1, 2, 4};
  int32_t* structure = nullptr;
  int64_t size = 0;
  int code = fallow_structure_build(engine, rows, columns, begin.data(), column.data(), groups[below(5)], &structure, &size);
  if (code == FALLOW_BAD_STRUCTURE)  // a group that this engine does not have
    code = fallow_structure_build(engine, rows, columns, begin.data(), column.data(), 0, &structure, &size);
  if (code) return void(failures++);
  const int64_t x_stride = columns + apart, g_stride = rows + apart;
  const Floats values(nnz), x(x_stride * tokens + 1), g(g_stride * tokens + 1), bias(rows), start(size_t(rows) * tokens);
  const Floats y(size_t(rows) * tokens), grad_x(size_t(columns) * tokens), grad_values(nnz), grad_bias(rows);
  const float *xs = x.get() + 1, *gs = g.get() + 1;  // one float off the alignment that new gives
  const fallow_matrix w{structure, size, rows, columns, nnz, begin.data(), column.data(), values.get()};
  const int threads = 1 + below(2);
  failures += fallow_forward(&w, xs, x_stride, bias.get(), start.get(), y.get(), rows, tokens, threads) != FALLOW_OK;
  failures += fallow_backward(&w, xs, x_stride, gs, g_stride, grad_x.get(), grad_values.get(), grad_bias.get(), tokens,
                              threads) != FALLOW_OK;
  std::vector<double> right_x(size_t(columns) * tokens), right_values(nnz), right_bias(rows);
  for (int t = 0; t < tokens; t++)
    for (int r = 0; r < rows; r++) {
      double sum = double(bias.get()[r]) + start.get()[t * rows + r];
      const double out = gs[t * g_stride + r];
      right_bias[r] += out;
      for (int32_t k = begin[r]; k < begin[r + 1]; k++) {
        sum += double(values.get()[k]) * xs[t * x_stride + column[k]];
        right_x[size_t(t) * columns + column[k]] += values.get()[k] * out;
        right_values[k] += xs[t * x_stride + column[k]] * out;
      }
      expect_near(y.get()[t * rows + r], sum, "y");
    }
  for (size_t k = 0; k < right_x.size(); k++) expect_near(grad_x.get()[k], right_x[k], "gradient of x");
  for (int k = 0; k < nnz; k++) expect_near(grad_values.get()[k], right_values[k], "gradient of a value");
  for (int r = 0; r < rows; r++) expect_near(grad_bias.get()[r], right_bias[r], "gradient of the bias");
  failures += fallow_forward(&w, xs, x_stride, nullptr, nullptr, y.get(), rows, 0, threads) != FALLOW_OK;

  fallow_matrix bare = w;  // without a structure, and one token with factors
  bare.structure = nullptr, bare.size = 0, bare.engine = engine;
  const int rank = 1 + below(9);
  const Floats a(size_t(rank) * columns), b(size_t(rank) * rows), again(size_t(rows) * tokens), one(rows);
  failures += fallow_forward(&bare, xs, x_stride, bias.get(), start.get(), again.get(), rows, tokens, threads) != FALLOW_OK;
  for (size_t k = 0; k < size_t(rows) * tokens; k++) expect_near(again.get()[k], y.get()[k], "y without a structure");
  failures += fallow_backward(&bare, xs, x_stride, gs, g_stride, grad_x.get(), grad_values.get(), grad_bias.get(), tokens,
                              threads) != FALLOW_OK;
  for (size_t k = 0; k < right_x.size(); k++) expect_near(grad_x.get()[k], right_x[k], "gradient of x without a structure");
  failures += fallow_one_token(&bare, a.get(), b.get(), rank, 0.5f, xs, bias.get(), one.get(), threads) != FALLOW_OK;
  std::vector<double> inner(rank);
  for (int k = 0; k < rank; k++)
    for (int c = 0; c < columns; c++) inner[k] += 0.5 * a.get()[k * columns + c] * xs[c];
  for (int r = 0; r < rows; r++) {
    double sum = bias.get()[r];
    for (int k = 0; k < rank; k++) sum += b.get()[r * rank + k] * inner[k];
    for (int32_t k = begin[r]; k < begin[r + 1]; k++) sum += double(values.get()[k]) * xs[column[k]];
    expect_near(one.get()[r], sum, "one token");
  }
  fallow_matrix other = w;
  other.d_in++;
  failures += fallow_forward(&other, xs, x_stride, nullptr, nullptr, y.get(), rows, tokens, threads) != FALLOW_BAD_STRUCTURE;
  fallow_structure_free(structure);
}

}  // namespace

int main(int count, char** words) {
  const int rounds = count > 1 ? std::atoi(words[1]) : 200;
  for (int engine = 0; engine < fallow_num_engines(); engine++) {
    if (!fallow_engine_name(engine)) continue;
    for (int round = 0; round < rounds; round++) once(engine);
    std::printf("%s: %d supports, %d failures\n", fallow_engine_name(engine), rounds, failures);
  }
  return failures ? 1 : 0;
}
