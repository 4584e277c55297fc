// CPU kernel of high_pass: each output row blurs 15 input rows into a line, then the line; nothing is stored between.
#pragma once

#include "../high_pass.h"
#include "scratch.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// line[x] = sum over k of weight[k] * row[k][x]
template <typename T>
void blur_down(const T* const (&row)[kBlurTaps], const T* weight, T* line, int64_t width) {
#pragma omp simd
  for (int64_t x = 0; x < width; ++x) {
    T sum = 0;
    for (int k = 0; k < kBlurTaps; ++k) sum += weight[k] * row[k][x];
    line[x] = sum;
  }
}

// out[x] = sum over k of window[k] * line[x + k - radius]
template <typename T>
void blur_along(const BlurWindow<T>& window, const T* line, T* out, int64_t begin, int64_t end) {
#pragma omp simd
  for (int64_t x = begin; x < end; ++x) {
    T sum = window.tap[kBlurRadius] * line[x];
    for (int k = 1; k <= kBlurRadius; ++k) sum += window.tap[kBlurRadius + k] * (line[x - k] + line[x + k]);
    out[x] = sum;
  }
}

// Blur a line whose ends are reflected. It has room for the radius on both sides.
template <typename T>
void blur_reflected(const BlurWindow<T>& window, T* line, T* out, int64_t width) {
  for (int k = 1; k <= kBlurRadius; ++k) {
    line[-k] = line[k];
    line[width - 1 + k] = line[width - 1 - k];
  }
  blur_along(window, line, out, 0, width);
}

// The adjoint: blur past both ends of a line that is 0 there, then add what was reflected back where it came from.
// The line and `out` have room for twice the radius and once the radius on both sides.
template <typename T>
void blur_reflected_adjoint(const BlurWindow<T>& window, T* line, T* out, int64_t width) {
  for (int k = 1; k <= 2 * kBlurRadius; ++k) line[-k] = line[width - 1 + k] = 0;
  blur_along(window, line, out, -kBlurRadius, width + kBlurRadius);
  for (int k = 1; k <= kBlurRadius; ++k) out[k] += out[-k];
  for (int k = 1; k <= kBlurRadius; ++k) out[width - 1 - k] += out[width - 1 + k];
}

template <typename T>
void high_pass(const T* in, T* out, Planes size, bool adjoint, int threads) {
  const BlurWindow<T> window(kBlurSigma);
  const int64_t height = size.height, width = size.width, room = 2 * kBlurRadius;

#pragma omp parallel num_threads(threads)
  {
    Scratch<T> line_memory(width + 2 * room), blurred_memory(width + 2 * room);
    T* line = line_memory.data() + room;
    T* blurred = blurred_memory.data() + room;

#pragma omp for schedule(static)
    for (int64_t index = 0; index < size.planes * height; ++index) {
      const int64_t y = index % height;
      const T* here = in + index * width;

      // The rows of the band with their weights; one beyond the border weighs 0 and stands in for itself.
      const T* row[kBlurTaps];
      T weight[kBlurTaps];
      const bool inside = y >= room && y < height - room;
      for (int k = 0; k < kBlurTaps; ++k) {
        const int64_t from = y + k - kBlurRadius;
        row[k] = from < 0 || from >= height ? here : here + (k - kBlurRadius) * width;
        weight[k] = inside    ? window.tap[k]
                    : adjoint ? blur_weight(window, from, y, height)
                              : blur_weight(window, y, from, height);
      }

      blur_down(row, weight, line, width);
      if (adjoint)
        blur_reflected_adjoint(window, line, blurred, width);
      else
        blur_reflected(window, line, blurred, width);

#pragma omp simd
      for (int64_t x = 0; x < width; ++x) out[index * width + x] = here[x] - blurred[x];
    }
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
