// CPU kernels of instance_norm_lrelu: a plane at a time, which fits the cache.
#pragma once

#include <cmath>

#include "scratch.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Pixels whose sum is kept in T; such sums are added in double, since a plane may be large.
constexpr int64_t kRun = 1024;

// Mean of a plane and 1 / sqrt(var + eps), the variance biased.
template <typename T>
void plane_statistics(const T* x, int64_t pixels, double eps, T* mean, T* inverse) {
  double total = 0, squares = 0;
  for (int64_t begin = 0; begin < pixels; begin += kRun) {
    const int64_t end = begin + kRun < pixels ? begin + kRun : pixels;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < end; ++i) sum += x[i];
    total += sum;
  }
  const T centre = static_cast<T>(total / pixels);
  for (int64_t begin = 0; begin < pixels; begin += kRun) {
    const int64_t end = begin + kRun < pixels ? begin + kRun : pixels;
    T square = 0;
#pragma omp simd reduction(+ : square)
    for (int64_t i = begin; i < end; ++i) square += (x[i] - centre) * (x[i] - centre);
    squares += square;
  }
  *mean = centre;
  *inverse = static_cast<T>(1 / std::sqrt(squares / pixels + eps));
}

template <typename T>
void instance_norm_lrelu_forward(const T* x, T* out, Planes size, double slope_, double eps, int threads) {
  const int64_t pixels = size.height * size.width;
  const T slope = static_cast<T>(slope_);
#pragma omp parallel for schedule(static) num_threads(useful_threads(threads, size.pixels()))
  for (int64_t plane = 0; plane < size.planes; ++plane) {
    const T* from = x + plane * pixels;
    T* to = out + plane * pixels;
    T mean, inverse;
    plane_statistics(from, pixels, eps, &mean, &inverse);
#pragma omp simd
    for (int64_t i = 0; i < pixels; ++i) {
      const T normal = (from[i] - mean) * inverse;
      to[i] = normal * (normal > 0 ? T(1) : slope);
    }
  }
}

// With n the normalised x and g = v_out * lrelu'(n): v_x = (g - mean(g) - n * mean(g * n)) * inverse.
template <typename T>
void instance_norm_lrelu_backward(const T* v_out, const T* x, T* v_x, Planes size, double slope_, double eps,
                                  int threads) {
  const int64_t pixels = size.height * size.width;
  const T slope = static_cast<T>(slope_);
#pragma omp parallel for schedule(static) num_threads(useful_threads(threads, size.pixels()))
  for (int64_t plane = 0; plane < size.planes; ++plane) {
    const T *from = x + plane * pixels, *v = v_out + plane * pixels;
    T* to = v_x + plane * pixels;
    T mean, inverse;
    plane_statistics(from, pixels, eps, &mean, &inverse);
    double total = 0, total_along = 0;
    for (int64_t begin = 0; begin < pixels; begin += kRun) {
      const int64_t end = begin + kRun < pixels ? begin + kRun : pixels;
      T sum = 0, along = 0;
#pragma omp simd reduction(+ : sum, along)
      for (int64_t i = begin; i < end; ++i) {
        const T normal = (from[i] - mean) * inverse, g = v[i] * (normal > 0 ? T(1) : slope);
        sum += g;
        along += g * normal;
      }
      total += sum;
      total_along += along;
    }
    const T g_mean = static_cast<T>(total / pixels), along_mean = static_cast<T>(total_along / pixels);
#pragma omp simd
    for (int64_t i = 0; i < pixels; ++i) {
      const T normal = (from[i] - mean) * inverse, g = v[i] * (normal > 0 ? T(1) : slope);
      to[i] = (g - g_mean - normal * along_mean) * inverse;
    }
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
