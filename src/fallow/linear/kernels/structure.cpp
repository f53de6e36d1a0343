#include "structure.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "engine.h"
#include "fallow_kernels.h"

namespace fallow {
namespace {

constexpr int32_t MAGIC = 0x46414C57, FORMAT = 1;
constexpr int MIXED_WIDTH = 128, SHARED_WIDTH = 192, WIDEST = 256;

struct WalkHeader {
  int32_t rows, columns, group, width, blocks, reserved;
  int64_t first_local, local, counts, first_value, rank;  // places in int32; 0 for what is absent
};

struct Header {
  int32_t magic, format, kind, engine, d_out, d_in, nnz, reserved;
  int64_t size;
  WalkHeader forward, rowwise, transposed;
};

// Collects sections, each on a cache line of its own.
struct Writer {
  std::vector<int32_t> words;
  Writer() : words(round_up((sizeof(Header) + 3) / 4)) {}
  static size_t round_up(size_t count) { return (count + 15) / 16 * 16; }
  template <class T>
  int64_t put(const std::vector<T>& section) {
    const size_t place = words.size();
    words.resize(place + round_up((section.size() * sizeof(T) + 3) / 4));
    if (!section.empty()) std::memcpy(words.data() + place, section.data(), section.size() * sizeof(T));
    return static_cast<int64_t>(place);
  }
};

// A matrix by rows: entry k of row r lies in `column[k]`, and `rank[k]` says where its value stands.
struct Rows {
  int rows, columns;
  const int32_t* begin;
  const uint16_t* column;
  const uint16_t* rank;
};

bool is_sound(int d_out, int d_in, const int32_t* begin, const uint16_t* column) {
  if (begin[0] != 0) return false;
  for (int row = 0; row < d_out; row++) {
    if (begin[row + 1] < begin[row] || begin[row + 1] - begin[row] > d_in) return false;
    for (int32_t k = begin[row]; k < begin[row + 1]; k++)
      if (column[k] >= d_in || (k > begin[row] && column[k] <= column[k - 1])) return false;
  }
  return true;
}

bool columns_are_shared(int d_out, const int32_t* begin, const uint16_t* column) {
  if (d_out % 4) return false;
  for (int row = 0; row < d_out; row++) {
    const int first = row & ~3;
    const size_t count = begin[row + 1] - begin[row];
    if (count != static_cast<size_t>(begin[first + 1] - begin[first])) return false;
    if (count && std::memcmp(column + begin[row], column + begin[first], count * sizeof(uint16_t))) return false;
  }
  return true;
}

WalkHeader header_of(const Rows& m, int group, int width) {
  WalkHeader walk{};
  walk.rows = m.rows, walk.columns = m.columns, walk.group = group, walk.width = width;
  walk.blocks = (m.columns + width - 1) / width;
  return walk;
}

// Rows one by one; with `group` 4 the first row of each group speaks for all four.
WalkHeader walk_by_row(const Rows& m, int group, int width, Writer& out) {
  WalkHeader walk = header_of(m, group, width);
  const int groups = m.rows / group;
  std::vector<int32_t> first_local(static_cast<size_t>(walk.blocks) * groups + 1), next(groups);
  for (int g = 0; g < groups; g++) next[g] = m.begin[g * group];
  std::vector<uint8_t> local;
  std::vector<uint16_t> rank;
  for (int block = 0; block < walk.blocks; block++) {
    const int64_t from = static_cast<int64_t>(block) * width;
    for (int g = 0; g < groups; g++) {
      first_local[static_cast<size_t>(block) * groups + g] = static_cast<int32_t>(local.size());
      for (; next[g] < m.begin[g * group + 1] && m.column[next[g]] < from + width; next[g]++) {
        local.push_back(static_cast<uint8_t>(m.column[next[g]] - from));
        if (m.rank) rank.push_back(m.rank[next[g]]);
      }
    }
  }
  first_local.back() = static_cast<int32_t>(local.size());
  walk.first_local = out.put(first_local), walk.local = out.put(local);
  if (m.rank) walk.rank = out.put(rank);
  return walk;
}

WalkHeader walk_by_group(const Rows& m, int group, int width, Writer& out) {
  WalkHeader walk = header_of(m, group, width);
  const int groups = (m.rows + group - 1) / group, patterns = (1 << group) - 1;
  const size_t places = static_cast<size_t>(walk.blocks) * groups;
  std::vector<uint8_t> counts(places * patterns), local, pattern(width);
  std::vector<int32_t> first_local(places + 1), first_value(places + 1), entry(static_cast<size_t>(width) * group);
  std::vector<uint16_t> rank(m.begin[m.rows]);
  std::vector<int32_t> next(m.begin, m.begin + m.rows);  // of each row, the first entry that no block has taken yet
  int32_t values = 0;
  for (int block = 0; block < walk.blocks; block++) {
    const int64_t from = static_cast<int64_t>(block) * width;
    for (int g = 0; g < groups; g++) {
      const size_t place = static_cast<size_t>(block) * groups + g;
      first_local[place] = static_cast<int32_t>(local.size());
      first_value[place] = values;
      std::fill(pattern.begin(), pattern.end(), 0);
      for (int r = 0; r < group && g * group + r < m.rows; r++) {
        const int row = g * group + r;
        for (; next[row] < m.begin[row + 1] && m.column[next[row]] < from + width; next[row]++) {
          const int c = static_cast<int>(m.column[next[row]] - from);
          pattern[c] |= static_cast<uint8_t>(1 << r);
          entry[static_cast<size_t>(c) * group + r] = next[row];
        }
      }
      uint8_t* count = counts.data() + place * patterns;
      for (int c = 0; c < width; c++)
        if (pattern[c]) count[pattern[c] - 1]++;
      for (int p = 1; p <= patterns; p++) {
        if (!count[p - 1]) continue;
        for (int c = 0; c < width; c++) {
          if (pattern[c] != p) continue;
          local.push_back(static_cast<uint8_t>(c));
          for (int r = 0; r < group; r++)
            if (p >> r & 1) rank[values++] = m.rank[entry[static_cast<size_t>(c) * group + r]];
        }
      }
    }
  }
  first_local[places] = static_cast<int32_t>(local.size());
  first_value[places] = values;
  walk.first_local = out.put(first_local), walk.local = out.put(local);
  walk.counts = out.put(counts), walk.first_value = out.put(first_value), walk.rank = out.put(rank);
  return walk;
}

int chosen_group(const Engine& engine, double density) {
  // Sharing loads between rows pays where columns are often met by several of them; below, the many short loops cost more.
  const int group = density >= 0.4 ? 4 : density >= 0.15 ? 2 : 1;
  return std::min(group, engine.max_group);
}

int width_by_row(double density) {
  // Blocks that hold few entries of a row cost more for its sums than the first-level cache saves.
  const double wanted = density > 0 ? 16.0 / density : MIXED_WIDTH;
  return static_cast<int>(std::min<double>(WIDEST, std::max<double>(MIXED_WIDTH, wanted)));
}

void build_mixed(const Engine& tools, int group, Header& header, const Rows& support, Writer& out) {
  const int d_out = support.rows, d_in = support.columns;
  const int32_t* row_begin = support.begin;
  const double density = static_cast<double>(header.nnz) / (static_cast<double>(d_out) * d_in);
  if (!group) group = chosen_group(tools, density);
  int32_t longest = 0;
  for (int r = 0; r < d_out; r++) longest = std::max(longest, row_begin[r + 1] - row_begin[r]);
  if (static_cast<int64_t>(longest) * group > 65536) group = 1;  // ranks are 16 bits wide
  std::vector<uint16_t> rank(header.nnz), rank_in_row(header.nnz), row(header.nnz);
  std::vector<int32_t> begin(static_cast<size_t>(d_in) + 1);
  for (int r = 0; r < d_out; r++)
    for (int32_t k = row_begin[r]; k < row_begin[r + 1]; k++) {
      rank[k] = static_cast<uint16_t>(k - row_begin[r / group * group]);
      begin[support.column[k] + 1]++;
    }
  for (int c = 0; c < d_in; c++) begin[c + 1] += begin[c];
  std::vector<int32_t> next(begin.begin(), begin.end() - 1);
  for (int r = 0; r < d_out; r++)
    for (int32_t k = row_begin[r]; k < row_begin[r + 1]; k++) {
      const int32_t place = next[support.column[k]]++;
      row[place] = static_cast<uint16_t>(r);
      rank_in_row[place] = static_cast<uint16_t>(k - row_begin[r]);
    }
  const Rows ranked{d_out, d_in, row_begin, support.column, rank.data()};
  const Rows transposed{d_in, d_out, begin.data(), row.data(), rank_in_row.data()};
  const int width = width_by_row(density);
  header.rowwise = walk_by_row(support, 1, width, out);
  header.forward = group == 1 ? header.rowwise : walk_by_group(ranked, group, MIXED_WIDTH, out);
  header.transposed = group == 1 ? walk_by_row(transposed, 1, width, out) : walk_by_group(transposed, group, MIXED_WIDTH, out);
}

}  // namespace

int build(int number, int d_out, int d_in, const int32_t* row_begin, const uint16_t* column, int group, Packed* packed) {
  const Engine* tools = engine(number);
  if (!tools || (group != 0 && group != 1 && group != 2 && group != 4) || group > tools->max_group) return FALLOW_BAD_STRUCTURE;
  if (d_out < 1 || d_in < 1 || d_out > 65536 || d_in > 65536) return FALLOW_BAD_SIZE;
  if (!is_sound(d_out, d_in, row_begin, column)) return FALLOW_BAD_SUPPORT;
  try {
    Writer out;
    Header header{};
    header.magic = MAGIC, header.format = FORMAT, header.engine = number;
    header.d_out = d_out, header.d_in = d_in, header.nnz = row_begin[d_out];
    const Rows support{d_out, d_in, row_begin, column, nullptr};
    if (!group && columns_are_shared(d_out, row_begin, column)) {
      header.kind = SHARED;
      header.forward = header.rowwise = walk_by_row(support, 4, SHARED_WIDTH, out);
    } else {
      header.kind = MIXED;
      build_mixed(*tools, group, header, support, out);
    }
    header.size = static_cast<int64_t>(out.words.size());
    std::memcpy(out.words.data(), &header, sizeof(header));
    packed->size = header.size;
    packed->data = static_cast<int32_t*>(std::malloc(out.words.size() * sizeof(int32_t)));
    if (!packed->data) return FALLOW_NO_MEMORY;
    std::memcpy(packed->data, out.words.data(), out.words.size() * sizeof(int32_t));
    return FALLOW_OK;
  } catch (const std::bad_alloc&) {
    return FALLOW_NO_MEMORY;
  }
}

int64_t expected_bytes(int number, int d_out, int d_in, int64_t nnz, bool shared) {
  const Engine* tools = engine(number);
  if (!tools) return 0;
  const double density = static_cast<double>(nnz) / (static_cast<double>(d_out) * d_in);
  const auto places = [](int rows, int columns, int group, int width) {
    return static_cast<double>((columns + width - 1) / width) * ((rows + group - 1) / group);
  };
  if (shared) return static_cast<int64_t>(sizeof(Header) + 4 * places(d_out, d_in, 4, SHARED_WIDTH) + nnz / 4.0);
  const int group = chosen_group(*tools, density), width = width_by_row(density), patterns = (1 << group) - 1;
  double bytes = sizeof(Header) + 4 * places(d_out, d_in, 1, width) + nnz;
  if (group == 1) return static_cast<int64_t>(bytes + 4 * places(d_in, d_out, 1, width) + 3.0 * nnz);
  const double met = 1 - std::pow(1 - density, group);  // share of the columns that a group meets
  for (const auto& [rows, columns] : {std::pair<int, int>{d_out, d_in}, std::pair<int, int>{d_in, d_out}})
    bytes += (8 + patterns) * places(rows, columns, group, MIXED_WIDTH) + met * columns * ((rows + group - 1) / group) + 2.0 * nnz;
  return static_cast<int64_t>(bytes);
}

bool read(const int32_t* data, int64_t size, Structure* out) {
  Header header;
  if (size < static_cast<int64_t>(sizeof(header) / sizeof(int32_t))) return false;
  std::memcpy(&header, data, sizeof(header));
  if (header.magic != MAGIC || header.format != FORMAT || header.size != size || !engine(header.engine)) return false;
  const auto at = [data](int64_t place) { return place ? data + place : nullptr; };
  const auto walk = [&at](const WalkHeader& from) {
    Walk to{};
    to.rows = from.rows, to.columns = from.columns, to.group = from.group, to.width = from.width, to.blocks = from.blocks;
    to.first_local = at(from.first_local);
    to.local = reinterpret_cast<const uint8_t*>(at(from.local));
    to.counts = reinterpret_cast<const uint8_t*>(at(from.counts));
    to.first_value = at(from.first_value);
    to.rank = reinterpret_cast<const uint16_t*>(at(from.rank));
    return to;
  };
  out->kind = static_cast<Kind>(header.kind);
  out->engine = header.engine, out->d_out = header.d_out, out->d_in = header.d_in, out->nnz = header.nnz;
  out->forward = walk(header.forward), out->rowwise = walk(header.rowwise), out->transposed = walk(header.transposed);
  return true;
}

namespace {

// Calls visit(first value of the walk, first value of the parameter, count) for each piece of a row in a block, in which both
// have the same order.
template <class Visit>
void pieces(const Walk& walk, const int32_t* row_begin, int first, int last, Visit visit) {
  const int groups = walk.groups();
  for (int group = first; group < last; group++) {
    int32_t done = 0;
    for (int block = 0; block < walk.blocks; block++) {
      const int32_t* bounds = walk.first_local + static_cast<int64_t>(block) * groups + group;
      visit(bounds[0], row_begin + static_cast<int64_t>(group) * walk.group, done, bounds[1] - bounds[0]);
      done += bounds[1] - bounds[0];
    }
  }
}

void fetch_transposed(const Walk& walk, const int32_t* row_begin, const float* values, int first, int last, float* walked) {
  const int groups = walk.groups(), patterns = (1 << walk.group) - 1;
  for (int block = 0; block < walk.blocks; block++) {
    const int32_t* row = row_begin + static_cast<int64_t>(block) * walk.width;
    const int64_t begin = static_cast<int64_t>(block) * groups + first, end = begin + (last - first);
    if (walk.group == 1) {
      for (int32_t k = walk.first_local[begin]; k < walk.first_local[end]; k++)
        walked[k] = values[row[walk.local[k]] + walk.rank[k]];
      continue;
    }
    const uint8_t* local = walk.local + walk.first_local[begin];
    int32_t k = walk.first_value[begin];
    for (int64_t place = begin; place < end; place++) {
      for (int pattern = 1; pattern <= patterns; pattern++) {
        const int met = __builtin_popcount(static_cast<unsigned>(pattern));
        for (int left = walk.counts[place * patterns + pattern - 1]; left > 0; left--) {
          const float* from = values + row[*local++];
          for (int r = 0; r < met; r++, k++) walked[k] = from[walk.rank[k]];
        }
      }
    }
  }
}

}  // namespace

void fetch_values(const Structure& s, const Walk& walk, const int32_t* row_begin, const float* values, int first, int last,
                  float* walked) {
  if (&walk == &s.transposed) return fetch_transposed(walk, row_begin, values, first, last, walked);
  if (s.kind == SHARED) {
    pieces(walk, row_begin, first, last, [=](int32_t to, const int32_t* begin, int32_t from, int32_t count) {
      const float *a = values + begin[0] + from, *b = values + begin[1] + from;
      const float *c = values + begin[2] + from, *d = values + begin[3] + from;
      float* out = walked + 4 * static_cast<int64_t>(to);
      for (int32_t k = 0; k < count; k++, out += 4) out[0] = a[k], out[1] = b[k], out[2] = c[k], out[3] = d[k];
    });
  } else if (walk.group == 1) {
    pieces(walk, row_begin, first, last, [=](int32_t to, const int32_t* begin, int32_t from, int32_t count) {
      std::memcpy(walked + to, values + begin[0] + from, static_cast<size_t>(count) * sizeof(float));
    });
  } else {
    const int groups = walk.groups();
    for (int block = 0; block < walk.blocks; block++)
      for (int group = first; group < last; group++) {
        const int64_t place = static_cast<int64_t>(block) * groups + group;
        const float* from = values + row_begin[group * walk.group];
        for (int32_t k = walk.first_value[place]; k < walk.first_value[place + 1]; k++) walked[k] = from[walk.rank[k]];
      }
  }
}

void return_values(const Structure& s, const int32_t* row_begin, const float* walked, int first, int last, float* values) {
  if (s.kind == SHARED) {
    pieces(s.rowwise, row_begin, first, last, [=](int32_t from, const int32_t* begin, int32_t to, int32_t count) {
      float *a = values + begin[0] + to, *b = values + begin[1] + to, *c = values + begin[2] + to, *d = values + begin[3] + to;
      const float* in = walked + 4 * static_cast<int64_t>(from);
      for (int32_t k = 0; k < count; k++, in += 4) a[k] = in[0], b[k] = in[1], c[k] = in[2], d[k] = in[3];
    });
  } else {
    pieces(s.rowwise, row_begin, first, last, [=](int32_t from, const int32_t* begin, int32_t to, int32_t count) {
      std::memcpy(values + begin[0] + to, walked + from, static_cast<size_t>(count) * sizeof(float));
    });
  }
}

}  // namespace fallow
