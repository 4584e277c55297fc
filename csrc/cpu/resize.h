// Rows of a resized image, each a weighted sum of rows, then of pixels along it.
#pragma once

#include "../nss_features.h"
#include "table.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Row y of the resized plane [width] from its source `pitch` wide, of which only columns [first, last) are needed.
// read(value) makes a number of a pixel; `line` has room for a row of the source.
template <typename W, typename T, typename Read>
void resize_row(const T* source, int64_t pitch, const Taps& down, const Taps& across, int64_t y, int64_t first,
                int64_t last, int64_t width, W* line, W* to, const Read& read) {
  for (int64_t x = first; x < last; ++x) line[x] = 0;
  for (int64_t k = 0; k < down.count; ++k) {
    const T* row = source + down.index[y * down.count + k] * pitch;
    const W weight = static_cast<W>(down.weight[y * down.count + k]);
    if (weight == 0) continue;
#pragma omp simd
    for (int64_t x = first; x < last; ++x) line[x] += weight * static_cast<W>(read(row[x]));
  }
  for (int64_t x = 0; x < width; ++x) {
    const int64_t* index = across.index + x * across.count;
    const double* weight = across.weight + x * across.count;
    W sum = 0;
    for (int64_t k = 0; k < across.count; ++k) sum += static_cast<W>(weight[k]) * line[index[k]];
    to[x] = sum;
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
