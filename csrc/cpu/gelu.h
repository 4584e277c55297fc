// The normal distribution at every element of a vector: what the exact GELU and its derivative are made of.
#pragma once

#include <cmath>
#include <type_traits>

#include "vector.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// e^y for -87 < y <= 0, to a unit in the last place: 2^n times the series of e^r, |r| <= ln(2) / 2.
inline VectorOf<float>::Type exponential(VectorOf<float>::Type y) {
  typedef int32_t Int __attribute__((vector_size(kVectorBytes)));
  constexpr float series[] = {1.f / 5040, 1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, 0.5f, 1.f, 1.f};
  constexpr float nearest = 12582912.f;  // 1.5 * 2^23: what is added to it is rounded to a whole number
  const auto n = y * 1.44269504f + nearest - nearest;
  const auto r = y - n * 0.693145752f - n * 1.42860677e-6f;
  auto sum = r * 0 + series[0];
  for (int i = 1; i < 8; ++i) sum = sum * r + series[i];
  const Int power = (__builtin_convertvector(n, Int) + 127) << 23;
  return sum * load<VectorOf<float>::Type>(reinterpret_cast<const float*>(&power));
}

// The share of the normal distribution below a, and its density there.
template <typename T>
struct Normal {
  using V = typename VectorOf<T>::Type;
  V below, density;

  explicit Normal(V a) {
    constexpr T scale = T(0.3989422804014327);  // 1 / sqrt(2 pi)
    if constexpr (std::is_same<T, float>::value) {
      // Beyond |a|, e^(-a^2/2) times a polynomial in 1 / (1 + 0.23 |a|), fitted for |a| < 13; its error is 5e-8 of it.
      constexpr float tail[] = {-7.83683502e-02f, 2.89909947e-01f, -2.77030185e-01f, 3.00142440e-01f, -3.19377006e-02f,
                                1.19062403e-01f,  8.58889367e-02f, 9.23589704e-02f,  -2.64852418e-05f};
      const V away = a < 0 ? -a : a, near = away < 13 ? away : V{} + 13;
      const V power = exponential(near * near * -0.5f), u = 1 / (1 + 0.23f * near);
      V beyond = V{} + tail[0];
      for (int i = 1; i < 9; ++i) beyond = beyond * u + tail[i];
      beyond *= power;
      below = a < 0 ? beyond : 1 - beyond;
      density = power * scale;
    } else {
      for (int64_t i = 0; i < static_cast<int64_t>(kVectorBytes / sizeof(T)); ++i) {
        below[i] = T(0.5) * std::erfc(a[i] * T(-0.7071067811865476));
        density[i] = scale * std::exp(T(-0.5) * a[i] * a[i]);
      }
    }
  }
};

}  // namespace RGSUD_ISA
}  // namespace rgsud
