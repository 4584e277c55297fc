// CPU kernel of ssim: value and both gradients in one walk over bands of rows that fit the cache.
#pragma once

#include "../ssim.h"
#include "scratch.h"
#include "vector.h"

namespace rgsud {
inline namespace RGSUD_ISA {

constexpr int kHalo = kSsimTaps - 1;
// Rows of gradient per task. A fixed height makes the sums independent of the number of threads; the halo of 10 rows
// is computed twice, 16 % more work.
constexpr int64_t kBandRows = 64;

template <typename T>
using SsimWindow = Gaussian<T, kSsimTaps>;

// to[x] = sum over k of window[k] * from[x + k * stride]: along a row for stride 1, down the rows for stride = pitch.
template <typename T>
void correlate(SsimWindow<T> window, const T* from, int64_t stride, T* to, int64_t count) {
  each_vector<T>(0, count, [&](int64_t x, auto sum) {
    for (int k = 0; k < kSsimTaps; ++k) sum += window.tap[k] * load<decltype(sum)>(from + x + k * stride);
    store(to + x, sum);
  });
}

// One thread's memory. A field is one of the four moments or, later, the loss's derivative at it.
template <typename T>
struct SsimBand {
  int64_t pitch, field;  // elements of a row, and of a field's rows
  bool wanted[4];        // whose derivatives are
  Scratch<T> blurred, derivative, line;

  SsimBand(int64_t width, bool at_x, bool at_y)
      : pitch(width + 2 * kHalo),
        field(pitch * (kBandRows + 2 * kHalo)),
        wanted{at_x, at_y, at_x || at_y, at_x || at_y},
        blurred(4 * field),
        derivative(4 * field),
        line(9 * pitch) {
    for (int64_t i = 0; i < 9 * pitch; ++i) line.data()[i] = 0;
  }
};

// Blur every input row [first, last) of the moments along the row: blurred[f][row - first].
template <typename T>
void blur_moments(const SsimWindow<T>& window, const T* x, const T* y, int64_t first, int64_t last, int64_t width,
                  SsimBand<T>& band) {
  T* squares = band.line.data();
  T* product = squares + band.pitch;
  for (int64_t row = first; row < last; ++row) {
    const T* x_row = x + row * width;
    const T* y_row = y + row * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      squares[i] = x_row[i] * x_row[i] + y_row[i] * y_row[i];
      product[i] = x_row[i] * y_row[i];
    }
    T* to = band.blurred.data() + (row - first) * band.pitch;
    const T* from[4] = {x_row, y_row, squares, product};
    for (int f = 0; f < 4; ++f) correlate(window, from[f], 1, to + f * band.field, width - kHalo);
  }
}

// Score window row `row` of the band; leaves the derivatives, spread along the row, in derivative[f][to].
template <typename T>
T score_row(const SsimWindow<T>& window, int64_t row, int64_t to, int64_t width, SsimBand<T>& band) {
  const int64_t windows = width - kHalo;
  T* moment[4];
  T* v_moment[4];
  for (int f = 0; f < 4; ++f) {
    moment[f] = band.line.data() + f * band.pitch;
    v_moment[f] = band.line.data() + (4 + f) * band.pitch + kHalo;  // zeros on both sides, for the spreading
    correlate(window, band.blurred.data() + f * band.field + row * band.pitch, band.pitch, moment[f], windows);
  }

  T* value = band.line.data() + 8 * band.pitch;
  each_vector<T>(0, windows, [&](int64_t i, auto zero) {
    using V = decltype(zero);
    const auto score = window_score<T, V>(
        {load<V>(moment[0] + i), load<V>(moment[1] + i), load<V>(moment[2] + i), load<V>(moment[3] + i)});
    store(value + i, score.value);
    store(v_moment[0] + i, score.v.x);
    store(v_moment[1] + i, score.v.y);
    store(v_moment[2] + i, score.v.squares);
    store(v_moment[3] + i, score.v.product);
  });
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < windows; ++i) sum += value[i];

  for (int f = 0; f < 4; ++f)
    if (band.wanted[f])
      correlate(window, v_moment[f] - kHalo, 1, band.derivative.data() + f * band.field + to * band.pitch, width);
  return sum;
}

// Gradients of the mean at pixel rows [first, last), from derivative rows that begin `kHalo` rows above `first`.
template <typename T>
void gather_gradient(const SsimWindow<T>& window, const T* x, const T* y, T* v_x, T* v_y, int64_t first, int64_t last,
                     int64_t width, T share, SsimBand<T>& band) {
  T* at[4];
  for (int f = 0; f < 4; ++f) at[f] = band.line.data() + f * band.pitch;
  for (int64_t row = first; row < last; ++row) {
    for (int f = 0; f < 4; ++f)
      if (band.wanted[f])
        correlate(window, band.derivative.data() + f * band.field + (row - first) * band.pitch, band.pitch, at[f],
                  width);
    const int64_t start = row * width;
    const T *here_x = x + start, *here_y = y + start;
    if (v_x) {
#pragma omp simd
      for (int64_t i = 0; i < width; ++i)
        v_x[start + i] = share * (at[0][i] + 2 * here_x[i] * at[2][i] + here_y[i] * at[3][i]);
    }
    if (v_y) {
#pragma omp simd
      for (int64_t i = 0; i < width; ++i)
        v_y[start + i] = share * (at[1][i] + 2 * here_y[i] * at[2][i] + here_x[i] * at[3][i]);
    }
  }
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// One band of one plane: pixel rows [top, bottom) of the gradient, windows whose first row lies there in the sum.
template <typename T>
double ssim_band(const SsimWindow<T>& window, const T* x, const T* y, T* v_x, T* v_y, int64_t top, int64_t bottom,
                 int64_t height, int64_t width, T share, SsimBand<T>& band) {
  const bool gradient = v_x || v_y;
  const int64_t windows = height - kHalo;
  // A pixel row is touched by the windows that begin at it or up to 10 rows above.
  const int64_t first = gradient ? larger(top - kHalo, 0) : top, last = smaller(bottom, windows);
  if (first < last) blur_moments(window, x, y, first, last + kHalo, width, band);

  double sum = 0;
  for (int64_t row = gradient ? top - kHalo : top; row < bottom; ++row) {
    if (row >= first && row < last) {
      const T score = score_row(window, row - first, row - top + kHalo, width, band);
      if (row >= top) sum += score;
    } else if (gradient) {
      for (int f = 0; f < 4; ++f) {
        T* empty = band.derivative.data() + f * band.field + (row - top + kHalo) * band.pitch;
        for (int64_t i = 0; i < width; ++i) empty[i] = 0;
      }
    }
  }
  if (gradient) gather_gradient(window, x, y, v_x, v_y, top, bottom, width, share, band);
  return sum;
}

// The sum of squared differences of some rows.
template <typename T>
double squared_error(const T* __restrict x, const T* __restrict y, int64_t rows, int64_t width) {
  double sum = 0;
  for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
    T along = 0;
#pragma omp simd reduction(+ : along)
    for (int64_t i = 0; i < width; ++i) along += (x[i] - y[i]) * (x[i] - y[i]);
    sum += along;
  }
  return sum;
}

template <typename T>
void ssim(const T* x, const T* y, T* value, T* v_x, T* v_y, double* squares, Planes size, int threads) {
  const SsimWindow<T> window(kSsimSigma);
  const int64_t bands = (size.height + kBandRows - 1) / kBandRows, plane = size.height * size.width;
  const double share = 1.0 / (static_cast<double>(size.planes) * (size.height - kHalo) * (size.width - kHalo));
  Scratch<double> sums(size.planes * bands), errors(squares ? size.planes * bands : 0);

#pragma omp parallel num_threads(useful_threads(threads, size.pixels()))
  {
    SsimBand<T> band(size.width, v_x, v_y);
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < size.planes * bands; ++task) {
      const int64_t start = task / bands * plane, top = task % bands * kBandRows;
      const int64_t bottom = smaller(top + kBandRows, size.height), here = start + top * size.width;
      sums.data()[task] =
          ssim_band(window, x + start, y + start, v_x ? v_x + start : nullptr, v_y ? v_y + start : nullptr, top, bottom,
                    size.height, size.width, static_cast<T>(share), band);
      if (squares) errors.data()[task] = squared_error(x + here, y + here, bottom - top, size.width);
    }
  }

  double sum = 0;
  for (int64_t task = 0; task < size.planes * bands; ++task) sum += sums.data()[task];
  *value = static_cast<T>(sum * share);
  for (int64_t p = 0; squares && p < size.planes; ++p) {
    squares[p] = 0;
    for (int64_t band = 0; band < bands; ++band) squares[p] += errors.data()[p * bands + band];
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
