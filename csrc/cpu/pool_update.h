// CPU kernel of pool_update: candidates are let in one after another, then what stays is copied by all threads.
#pragma once

#include <cmath>

#include "scratch.h"
#include "table.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Lets candidate m in where it is better than the worst version of its image; returns the slot, or -1.
inline int64_t enter(float* row, int64_t slots, float value, float margin) {
  int64_t worst = 0;
  for (int64_t k = 1; k < slots; ++k)
    if (row[k] < row[worst]) worst = k;
  const float least = row[worst] == -INFINITY ? row[worst] : row[worst] + margin;
  if (!std::isfinite(value) || !(value > least)) return -1;
  row[worst] = value;
  return worst;
}

// One row of an image, [3, width] with `plane` between the channels, as bytes [width, 3]; ties to even, NaN to 0.
inline void quantise_row(const float* from, int64_t plane, int64_t width, uint8_t* to) {
  for (int64_t x = 0; x < width; ++x) {
    for (int64_t c = 0; c < 3; ++c) {
      const float value = from[c * plane + x], clamped = value > 0 ? (value > 1 ? 1.0f : value) : 0.0f;
      to[3 * x + c] = static_cast<uint8_t>(std::rint(clamped * 255));
    }
  }
}

inline void pool_update(uint8_t* arena, float* scores, const float* images, const float* values, const int64_t* places,
                        bool* entered, PoolSize size, float margin, int threads) {
  const int64_t pixels = size.height * size.width;
  Scratch<int64_t> slot(size.count);
  for (int64_t m = 0; m < size.count; ++m) {
    slot.data()[m] = enter(scores + places[2 * m] * size.slots, size.slots, values[m], margin);
    entered[m] = slot.data()[m] >= 0;
    for (int64_t before = 0; entered[m] && before < m; ++before)  // whose place it takes need not be copied
      if (places[2 * before] == places[2 * m] && slot.data()[before] == slot.data()[m]) slot.data()[before] = -1;
  }

#pragma omp parallel for schedule(static) num_threads(useful_threads(threads, size.count* pixels))
  for (int64_t task = 0; task < size.count * size.height; ++task) {
    const int64_t m = task / size.height, y = task % size.height;
    if (slot.data()[m] < 0) continue;
    uint8_t* to = arena + slot.data()[m] * size.bytes + places[2 * m + 1] + 3 * y * size.width;
    quantise_row(images + 3 * m * pixels + y * size.width, pixels, size.width, to);
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
