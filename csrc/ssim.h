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
// V is the number type T or a vector of it.
template <typename T, typename V>
RGSUD_HD WindowScore<V> window_score(const Moments<V>& m) {
  const T one = 1, two = 2, c1 = static_cast<T>(kSsimC1), c2 = static_cast<T>(kSsimC2);
  const V cross = m.x * m.y, power = m.x * m.x + m.y * m.y;
  const V mean_top = two * cross + c1, mean_bottom = power + c1;
  const V spread_top = two * (m.product - cross) + c2, spread_bottom = m.squares - power + c2;

  const V inverse = one / (mean_bottom * spread_bottom);
  const V value = mean_top * spread_top * inverse;
  const V at_top = two * (spread_top - mean_top) * inverse;
  const V at_bottom = two * value * (mean_bottom - spread_bottom) * inverse;
  return {value,
          {m.y * at_top + m.x * at_bottom, m.x * at_top + m.y * at_bottom, -value * mean_bottom * inverse,
           two * mean_top * inverse}};
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
