// Rows of one channel of a depth-wise convolution, its output and its weights' gradient, as many at once as the
// registers hold: every vector that is loaded serves all rows that it reaches.
#pragma once

#include "bands.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Rows worked on together, beside a column of taps.
constexpr int64_t kDconvRows = kVectorBytes == 64 ? 8 : 4;

// A convolution of `rows` rows and `across` columns, whole groups and vectors. `from` points at the top left tap of the
// first pixel.
template <typename T, int Taps>
void convolve_rows(const T* from, const T* weight, T bias, T* to, int64_t rows, int64_t across, int64_t pitch) {
  using V = typename VectorOf<T>::Type;
  constexpr int R = kDconvRows;
  for (int64_t y = 0; y < rows; y += R) {
    for (int64_t p = 0; p < across; p += lanes_of<T>()) {
      V sum[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sum[r] = V{} + bias;
      for (int kx = 0; kx < Taps; ++kx) {
        V tap[Taps];
#pragma GCC unroll 16
        for (int ky = 0; ky < Taps; ++ky) tap[ky] = V{} + weight[ky * Taps + kx];
#pragma GCC unroll 16
        for (int i = 0; i < R + Taps - 1; ++i) {
          const V one = keep(load<V>(from + (y + i) * pitch + p + kx));
#pragma GCC unroll 16
          for (int ky = 0; ky < Taps; ++ky)
            if (i - ky >= 0 && i - ky < R) sum[i - ky] += one * tap[ky];
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) store(to + (y + r) * pitch + p, sum[r]);
    }
  }
}

// sums[ky][kx] = the sum over pixels of v and of x at that tap; sizes and `x` as above.
template <typename T, int Taps>
void correlate_rows(const T* v, const T* x, T* sums, int64_t rows, int64_t across, int64_t pitch) {
  using V = typename VectorOf<T>::Type;
  constexpr int R = kDconvRows;
  for (int kx = 0; kx < Taps; ++kx) {
    V sum[Taps] = {};
    for (int64_t y = 0; y < rows; y += R) {
      for (int64_t p = 0; p < across; p += lanes_of<T>()) {
        V some[R];
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) some[r] = load<V>(v + (y + r) * pitch + p);
#pragma GCC unroll 16
        for (int i = 0; i < R + Taps - 1; ++i) {
          const V one = keep(load<V>(x + (y + i) * pitch + p + kx));
#pragma GCC unroll 16
          for (int ky = 0; ky < Taps; ++ky)
            if (i - ky >= 0 && i - ky < R) sum[ky] += one * some[i - ky];
        }
      }
    }
#pragma GCC unroll 16
    for (int ky = 0; ky < Taps; ++ky) sums[ky * Taps + kx] = lane_sum<T>(sum[ky]);
  }
}

template <typename T>
struct RowFunctions {
  void (*convolve)(const T*, const T*, T, T*, int64_t, int64_t, int64_t);
  void (*correlate)(const T*, const T*, T*, int64_t, int64_t, int64_t);

  explicit RowFunctions(int64_t taps) {
    if (taps == 3)
      choose<3>();
    else if (taps == 5)
      choose<5>();
    else
      choose<7>();
  }

 private:
  template <int Taps>
  void choose() {
    convolve = convolve_rows<T, Taps>;
    correlate = correlate_rows<T, Taps>;
  }
};

}  // namespace RGSUD_ISA
}  // namespace rgsud
