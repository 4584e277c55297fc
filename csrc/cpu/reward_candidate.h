// CPU kernel of reward_candidate: row after row of a strip, its layer kept in a ring of 15 rows and summed down them.
#pragma once

#include <cstring>

#include "../reward_candidate.h"
#include "scratch.h"
#include "table.h"
#include "vector.h"

namespace rgsud {
inline namespace RGSUD_ISA {

constexpr int64_t kCandidateRows = 64;  // of a strip; the threads have no say in it, so that they change no bit

// The steps of a row stay functions of their own: where GCC 12 inlines them all, some of their loops turn scalar, and
// the whole takes 4 times as long.

// One row of the candidate, [3, width] with `pitch` between the channels. `at` is the row's place in a plane.
[[gnu::noinline]] inline void candidate_row(const CandidateImages& images, int64_t plane, int64_t at, int64_t width,
                                            float* to, int64_t pitch) {
  for (int64_t c = 0; c < 3; ++c) {
    const float* derained = images.derained + c * plane + at;
    float* row = to + c * pitch;
#pragma omp simd
    for (int64_t x = 0; x < width; ++x) row[x] = in_range(derained[x]);
    if (!images.mirrored) continue;
    const float* last = images.mirrored + c * plane + at + width - 1;
#pragma omp simd
    for (int64_t x = 0; x < width; ++x) row[x] = (row[x] + in_range(last[-x])) / 2;
  }
  if (!images.grey_layer) return;
  float *red = to, *green = red + pitch, *blue = green + pitch;
  const float *r = images.rainy + at, *g = r + plane, *b = g + plane;
#pragma omp simd
  for (int64_t x = 0; x < width; ++x) {
    const float layer = grey(r[x] - red[x], g[x] - green[x], b[x] - blue[x]);
    red[x] = in_range(r[x] - layer), green[x] = in_range(g[x] - layer), blue[x] = in_range(b[x] - layer);
  }
}

// One row of one channel enters the sums of the columns under a window, and the row that `layer` held, 15 rows above,
// leaves them. Without a `made`, below the image, nothing enters.
[[gnu::noinline]] inline void slide(const float* __restrict rainy, const float* __restrict made,
                                    float* __restrict layer, double* __restrict columns, float* __restrict line,
                                    int64_t width) {
#pragma omp simd
  for (int64_t x = 0; x < width; ++x) {
    const float enters = made ? rainy[x] - made[x] : 0.0f;
    columns[x] += static_cast<double>(enters) - static_cast<double>(layer[x]);
    layer[x] = enters;
    line[kLayerReach + x] = static_cast<float>(columns[x]);
  }
}

// Adds up what needs no neighbours: of one channel of the candidate and what it takes away.
[[gnu::noinline]] inline void add_channel(const float* __restrict value, const float* __restrict layer, int64_t width,
                                          LayerSums& sums) {
  double sum = 0, square = 0;
#pragma omp simd reduction(+ : sum, square)
  for (int64_t x = 0; x < width; ++x) {
    const double wide = value[x];
    sum += wide;
    square += wide * wide;
  }
  float removed = 0, negative = 0;
#pragma omp simd reduction(+ : removed, negative)
  for (int64_t x = 0; x < width; ++x) {
    const float taken = layer[x], darker = taken > 0 ? 0.0f : -taken;  // NaN stays
    removed += std::fabs(taken);
    negative += darker;
  }
  sums.value += sum, sums.square += square, sums.removed += removed, sums.negative += negative;
}

[[gnu::noinline]] inline float row_spread(const float* __restrict layer, int64_t width) {
  float spread = 0;
#pragma omp simd reduction(+ : spread)
  for (int64_t x = 0; x < width; ++x) spread += channel_spread(layer[x], layer[width + x], layer[2 * width + x]);
  return spread;
}

// to = |mean over the window around each pixel of a row|; returns the sum. `line` has borders of zeros.
[[gnu::noinline]] inline float window_row(const float* line, const float* share, float share_down, int64_t width,
                                          float* to) {
  each_vector<float>(0, width, [&](int64_t x, auto zero) {
    using V = decltype(zero);
    V sum = load<V>(line + x);
    for (int k = 1; k < kLayerWindow; ++k) sum += load<V>(line + x + k);
    store<V>(to + x, sum * (load<V>(share + x) * share_down));
  });
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t x = 0; x < width; ++x) {
    to[x] = std::fabs(to[x]);
    total += to[x];
  }
  return total;
}

// A thread's memory: 15 rows of the layer and one of the image, [3, width] each; sums of 15 rows, [3, width], and as
// lines with their borders; a row of means; and 1 / how many columns each window has.
struct CandidateScratch {
  float *layer, *row, *line, *means, *share;
  double* columns;
};

// Makes rows [top, end) of one image. The sums of the columns lose next to nothing: they are double.
inline LayerSums candidate_strip(const CandidateImages& images, const CandidateSize& size, int64_t top, int64_t end,
                                 const CandidateScratch& scratch) {
  const int64_t width = size.width, plane = size.pixels(), pitch = width + 2 * kLayerReach;
  LayerSums sums = {};
  std::memset(scratch.layer, 0, 3 * kLayerWindow * width * sizeof(float));
  std::memset(scratch.columns, 0, 3 * width * sizeof(double));
  for (int64_t y = top - 2 * kLayerReach; y < end; ++y) {
    // A row enters the windows of row y from below. What does not lie in the strip is made for them alone.
    const int64_t below = y + kLayerReach, at = below * width;
    if (below < 0) continue;
    const bool inside = below < size.height, mine = below >= top && below < end;
    float *to = mine ? images.image + at : scratch.row, *layer = scratch.layer + below % kLayerWindow * 3 * width;
    const int64_t apart = images.image && !mine ? width : plane;
    if (inside && images.image) candidate_row(images, plane, at, width, to, apart);
    const float* made = images.image ? to : images.derained + at;
    for (int64_t c = 0; c < 3; ++c) {
      slide(images.rainy + c * plane + at, inside ? made + c * apart : nullptr, layer + c * width,
            scratch.columns + c * width, scratch.line + c * pitch, width);
      if (mine) add_channel(made + c * apart, layer + c * width, width, sums);
    }
    if (mine) sums.spread += row_spread(layer, width);
    if (y < top) continue;

    const float share_down = 1.0f / window_count(y, size.height);
    for (int64_t c = 0; c < 3; ++c) {
      sums.low += window_row(scratch.line + c * pitch, scratch.share, share_down, width, scratch.means);
      if (!guard_window_at(y, size.height)) continue;
      for (int64_t x = 0; x < width; ++x)
        if (guard_window_at(x, width)) sums.change += scratch.means[x];
    }
  }
  return sums;
}

// layers: [count, 6].
inline void reward_candidate(const CandidateImages& images, double* layers, const CandidateSize& size, int threads) {
  const int64_t strips = (size.height + kCandidateRows - 1) / kCandidateRows, width = size.width;
  Scratch<LayerSums> sums(size.count * strips);
#pragma omp parallel num_threads(useful_threads(threads, size.count* size.pixels()))
  {
    Scratch<float> floats((3 * kLayerWindow + 8) * width + 6 * kLayerReach);
    Scratch<double> columns(3 * width);
    float *layer = floats.data(), *row = layer + 3 * kLayerWindow * width, *means = row + 3 * width;
    float *share = means + width, *line = share + width;
    for (int64_t i = 0; i < 3 * (width + 2 * kLayerReach); ++i) line[i] = 0;  // the borders stay
    for (int64_t x = 0; x < width; ++x) share[x] = 1.0f / window_count(x, width);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < size.count * strips; ++task) {
      const int64_t image = task / strips * 3 * size.pixels(), top = task % strips * kCandidateRows;
      const int64_t end = top + kCandidateRows < size.height ? top + kCandidateRows : size.height;
      const auto of = [&](const float* from) { return from ? from + image : nullptr; };
      const CandidateImages one = {of(images.rainy), of(images.derained), of(images.mirrored),
                                   images.image ? images.image + image : nullptr, images.grey_layer};
      sums.data()[task] = candidate_strip(one, size, top, end, {layer, row, line, means, share, columns.data()});
    }
  }
  for (int64_t image = 0; image < size.count; ++image) {
    LayerSums all = {};
    for (int64_t strip = 0; strip < strips; ++strip) all.add(sums.data()[image * strips + strip]);
    all.describe(size, layers + image * kLayerNumbers);
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
