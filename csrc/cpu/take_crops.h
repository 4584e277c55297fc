// CPU kernel of take_crops: bytes of whole images to float crops, mirrored and reflected on the way.
#pragma once

#include "scratch.h"
#include "table.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Place `at` of an axis of `size` pixels that is continued by reflection at both ends.
inline int64_t reflected(int64_t at, int64_t size) {
  if (at < size) return at;
  if (size == 1) return 0;
  at %= 2 * (size - 1);
  return at < size ? at : 2 * (size - 1) - at;
}

inline void take_crops(const uint8_t* pixels, const uint8_t* versions, const Window* windows, const float* shares,
                       float* crops, float* rewards, CropSize size, int threads) {
  const int64_t area = size.side * size.side;
#pragma omp parallel for schedule(static) num_threads(useful_threads(threads, size.count * area * (size.versions + 1)))
  for (int64_t task = 0; task < size.count * size.side; ++task) {
    const int64_t n = task / size.side, r = task % size.side;
    const Window& w = windows[n];
    const int64_t row = w.offset + reflected(w.top + r, w.height) * w.width * 3, to = 3 * n * area + r * size.side;
    for (int64_t c = 0; c < size.side; ++c) {
      const int64_t at = row + 3 * reflected(w.left + (w.flip ? size.side - 1 - c : c), w.width);
      for (int64_t channel = 0; channel < 3; ++channel) {
        const int64_t here = to + channel * area + c;
        crops[here] = static_cast<float>(pixels[at + channel]) / 255;
        if (!rewards) continue;
        float sum = 0;
        for (int64_t k = 0; k < size.versions; ++k)
          sum += shares[n * size.versions + k] * (static_cast<float>(versions[k * size.bytes + at + channel]) / 255);
        rewards[here] = sum;
      }
    }
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
