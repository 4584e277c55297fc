// High pass: image - Gaussian(image) with reflected borders; the blur as a banded matrix along each axis.
#pragma once

#include "common.h"

namespace rgsud {
inline namespace RGSUD_ISA {

constexpr int kBlurTaps = 15, kBlurRadius = 7;
constexpr double kBlurSigma = 9.0;

template <typename T>
using BlurWindow = Gaussian<T, kBlurTaps>;

// The window's weight at a distance of pixels, 0 beyond its radius.
template <typename T>
RGSUD_HD T blur_tap(const BlurWindow<T>& window, int64_t away) {
  return away < -kBlurRadius || away > kBlurRadius ? T(0) : window.tap[away + kBlurRadius];
}

// Weight with which input pixel `from` enters blurred pixel `to` on an axis of `size` pixels: itself, its reflection
// at pixel 0 and its reflection at the last pixel. Needs size > radius. The adjoint swaps `to` and `from`.
template <typename T>
RGSUD_HD T blur_weight(const BlurWindow<T>& window, int64_t to, int64_t from, int64_t size) {
  if (from < 0 || from >= size || to < 0 || to >= size) return T(0);
  T weight = blur_tap(window, to - from);
  if (from > 0) weight += blur_tap(window, to + from);
  if (from < size - 1) weight += blur_tap(window, 2 * (size - 1) - from - to);
  return weight;
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
