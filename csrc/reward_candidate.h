// A candidate for the reward pool: how one pixel of it is made, and what is added up about it and the layer it takes
// away.
#pragma once

#include "common.h"

namespace rgsud {

constexpr int kLayerWindow = 15, kLayerReach = kLayerWindow / 2, kLayerStride = 8, kLayerNumbers = 6;

// Images [count, 3, height, width]; mirrored null: there is none. image null: derained is the candidate as it is.
struct CandidateImages {
  const float *rainy, *derained, *mirrored;
  float* image;
  bool grey_layer;
};

struct CandidateSize {
  int64_t count, height, width;

  RGSUD_HD int64_t pixels() const { return height * width; }
};

inline namespace RGSUD_ISA {

// Clamped to [0, 1]; what is not finite becomes NaN.
RGSUD_HD float in_range(float value) { return (value < 0 ? 0.0f : value > 1 ? 1.0f : value) + 0 * value; }

// What a grey layer takes from a pixel of which these differences were to be taken; NaN stays.
RGSUD_HD float grey(float red, float green, float blue) {
  const float mean = (red + green + blue) / 3;
  return mean < 0 ? 0.0f : mean;
}

RGSUD_HD float channel_spread(float red, float green, float blue) {
  return std::fabs(red - green) + std::fabs(green - blue) + std::fabs(blue - red);
}

// How many pixels of a window around place `at` lie inside an axis.
RGSUD_HD int64_t window_count(int64_t at, int64_t size) {
  const int64_t first = at < kLayerReach ? 0 : at - kLayerReach, last = at + kLayerReach + 1;
  return (last < size ? last : size) - first;
}

// The windows of the guards lie inside the image, 8 apart; one whose side exceeds an axis covers it whole. So each is
// the window around one pixel: how many there are along an axis, and whether that of the pixel at `at` is one.
RGSUD_HD int64_t guard_windows(int64_t size) {
  return size < kLayerWindow ? 1 : (size - kLayerWindow) / kLayerStride + 1;
}
RGSUD_HD bool guard_window_at(int64_t at, int64_t size) {
  if (size < kLayerWindow) return at == (size <= kLayerReach ? size - 1 : kLayerReach);
  return at % kLayerStride == kLayerReach && at + kLayerReach < size;
}

// Sums over a part of an image.
struct LayerSums {
  double value, square, removed, change, spread, low, negative;

  RGSUD_HD void add(const LayerSums& other) {
    value += other.value, square += other.square, removed += other.removed, change += other.change;
    spread += other.spread, low += other.low, negative += other.negative;
  }

  // Over a whole image, to the numbers of Layer. Squares of floats and their sums are exact enough in double to
  // subtract.
  RGSUD_HD void describe(const CandidateSize& size, double* to) const {
    const double pixels = static_cast<double>(size.pixels()), values = 3 * pixels;
    const double windows = 3.0 * guard_windows(size.height) * guard_windows(size.width);
    const double variance = (square - value * value / values) / (values - 1);
    to[0] = variance < 0 ? 0.0 : variance;
    to[1] = removed / values;
    to[2] = change / windows;
    to[3] = spread / pixels;
    to[4] = low / values;
    to[5] = negative / values;
  }
};

}  // namespace RGSUD_ISA
}  // namespace rgsud
