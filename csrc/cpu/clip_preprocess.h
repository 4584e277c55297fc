// CPU kernel of clip_preprocess: each row of the crop from the rows and columns it needs, all else untouched.
#pragma once

#include "resize.h"
#include "scratch.h"
#include "table.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// images: [count, 3, height, width]; out: [count, 3, side, side] = (resized - mean) / deviation, of each channel.
template <typename T>
void clip_preprocess(const T* images, T* out, const ClipSize& size, int threads) {
  int64_t first = size.width, last = 0;
  for (int64_t i = 0; i < size.side * size.across.count; ++i) {
    const int64_t at = size.across.index[i];
    first = at < first ? at : first;
    last = at >= last ? at + 1 : last;
  }
  const int64_t tasks = size.count * 3 * size.side;
#pragma omp parallel num_threads(useful_threads(threads, tasks* size.side * 8))
  {
    Scratch<T> line(size.width);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t plane = task / size.side, y = task % size.side, channel = plane % 3;
      T* to = out + task * size.side;
      const auto clamped = [](T value) { return value < 0 ? T(0) : value > 1 ? T(1) : value; };
      resize_row(images + plane * size.height * size.width, size.width, size.down, size.across, y, first, last,
                 size.side, line.data(), to, clamped);
      const T mean = static_cast<T>(size.mean[channel]), scale = static_cast<T>(1 / size.deviation[channel]);
      for (int64_t x = 0; x < size.side; ++x) to[x] = (to[x] - mean) * scale;
    }
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
