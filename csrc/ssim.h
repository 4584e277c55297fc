// SSIM of one window from its four moments, with the derivatives.
#pragma once

#include "common.h"

namespace rgsud {
inline namespace RGSUD_ISA {

constexpr int kSsimTaps = 11;
constexpr double kSsimSigma = 1.5;
constexpr double kSsimC1 = 0.01 * 0.01, kSsimC2 = 0.03 * 0.03;  // (K * data range)^2

// Gaussian means over one window: of x, of y, of x^2 + y^2 and of x * y.
template <typename T>
struct Moments {
  T x, y, squares, product;
};

// SSIM of one window and its derivatives at the moments.
template <typename T>
struct WindowScore {
  T value;
  Moments<T> v;
};

// (2 x y + C1)(2 s_xy + C2) / ((x^2 + y^2 + C1)(s_xx + s_yy + C2)): the two variances enter as their sum only.
template <typename T>
RGSUD_HD WindowScore<T> window_score(const Moments<T>& m) {
  const T cross = m.x * m.y, power = m.x * m.x + m.y * m.y;
  const T mean_top = 2 * cross + T(kSsimC1), mean_bottom = power + T(kSsimC1);
  const T spread_top = 2 * (m.product - cross) + T(kSsimC2), spread_bottom = m.squares - power + T(kSsimC2);

  const T inverse = 1 / (mean_bottom * spread_bottom);
  const T value = mean_top * spread_top * inverse;
  const T at_top = 2 * (spread_top - mean_top) * inverse;
  const T at_bottom = 2 * value * (mean_bottom - spread_bottom) * inverse;
  return {value,
          {m.y * at_top + m.x * at_bottom, m.x * at_top + m.y * at_bottom, -value * mean_bottom * inverse,
           2 * mean_top * inverse}};
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
