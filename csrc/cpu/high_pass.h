// CPU kernel of high_pass: each output row blurs 15 input rows into a line, then the line; nothing is stored between.
#pragma once

#include "../high_pass.h"
#include "scratch.h"
#include "vector.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// line[x] = sum over k of weight[k] * row[k][x]
template <typename T>
void blur_down(const T* const (&row)[kBlurTaps], const T* weight, T* line, int64_t width) {
  T tap[kBlurTaps];  // a copy of its own, so that the compiler knows it stays as it is
  for (int k = 0; k < kBlurTaps; ++k) tap[k] = weight[k];
  each_vector<T>(0, width, [&](int64_t x, auto sum) {
    for (int k = 0; k < kBlurTaps; ++k) sum += tap[k] * load<decltype(sum)>(row[k] + x);
    store(line + x, sum);
  });
}

// out[x] = sum over k of window[k] * line[x + k - radius]
template <typename T>
void blur_along(BlurWindow<T> window, const T* line, T* out, int64_t begin, int64_t end) {
  each_vector<T>(begin, end, [&](int64_t x, auto sum) {
    using V = decltype(sum);
    sum = window.tap[kBlurRadius] * load<V>(line + x);
    for (int k = 1; k <= kBlurRadius; ++k)
      sum += window.tap[kBlurRadius + k] * (load<V>(line + x - k) + load<V>(line + x + k));
    store(out + x, sum);
  });
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

// Rows that a thread blurs down before it blurs them along: reading a line in vectors that straddle the ones just
// written stalls the processor.
constexpr int64_t kRowsTogether = 8;

// The blur down an axis: weight[y * taps + k] of input row y + k - radius in blurred row y, or of the transpose.
template <typename T>
void fill_weights(const BlurWindow<T>& window, int64_t height, bool adjoint, T* weight) {
  for (int64_t y = 0; y < height; ++y) {
    const bool inside = y >= 2 * kBlurRadius && y < height - 2 * kBlurRadius;
    for (int k = 0; k < kBlurTaps; ++k) {
      const int64_t from = y + k - kBlurRadius;
      weight[y * kBlurTaps + k] = inside    ? window.tap[k]
                                  : adjoint ? blur_weight(window, from, y, height)
                                            : blur_weight(window, y, from, height);
    }
  }
}

// Blur down into row y of a plane. A row beyond the border weighs 0, and row y stands in for it.
template <typename T>
void blur_row(const T* weight, const T* plane, int64_t y, Planes size, T* line) {
  const T* row[kBlurTaps];
  for (int k = 0; k < kBlurTaps; ++k) {
    const int64_t from = y + k - kBlurRadius;
    row[k] = plane + (from < 0 || from >= size.height ? y : from) * size.width;
  }
  blur_down(row, weight + y * kBlurTaps, line, size.width);
}

template <typename T>
void add(const T* __restrict from, T* __restrict to, int64_t width) {
#pragma omp simd
  for (int64_t x = 0; x < width; ++x) to[x] += from[x];
}

// With `beside`, `out` holds image and detail of all channels; for the adjoint, `in` holds both gradients.
template <typename T>
void high_pass(const T* in, T* out, Planes size, bool adjoint, int64_t beside, int threads) {
  const BlurWindow<T> window(kBlurSigma);
  const int64_t room = 2 * kBlurRadius, pitch = size.width + 2 * room;
  Scratch<T> weight_memory(size.height * kBlurTaps);
  T* weight = weight_memory.data();
  fill_weights(window, size.height, adjoint, weight);
  const int64_t groups = (size.height + kRowsTogether - 1) / kRowsTogether;

#pragma omp parallel num_threads(useful_threads(threads, size.pixels()))
  {
    Scratch<T> memory((kRowsTogether + 1) * pitch);
    T* line = memory.data() + room;
    T* blurred = line + kRowsTogether * pitch;

#pragma omp for schedule(static)
    for (int64_t task = 0; task < size.planes * groups; ++task) {
      const int64_t top = task % groups * kRowsTogether, pixels = size.height * size.width;
      const int64_t single = task / groups * pixels, doubled = beside_plane(task / groups, beside) * pixels;
      const T* from = in + (adjoint ? doubled : single);
      T* to = out + (adjoint ? single : doubled);
      const int64_t rows = size.height - top < kRowsTogether ? size.height - top : kRowsTogether;
      for (int64_t r = 0; r < rows; ++r) blur_row(weight, from, top + r, size, line + r * pitch);

      for (int64_t r = 0; r < rows; ++r) {
        if (adjoint)
          blur_reflected_adjoint(window, line + r * pitch, blurred, size.width);
        else
          blur_reflected(window, line + r * pitch, blurred, size.width);

        const int64_t here = (top + r) * size.width, image = beside * pixels;
        subtract(from + here, blurred, to + here, size.width);
        if (!image) continue;
        if (adjoint)
          add(from - image + here, to + here, size.width);
        else
          std::memcpy(to - image + here, from + here, size.width * sizeof(T));
      }
    }
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
