// CPU kernel of rain_residual: what the rain generator reads, in one write.
#pragma once

#include <cstring>

#include "scratch.h"
#include "vector.h"

namespace rgsud {
inline namespace RGSUD_ISA {

template <typename T>
void rain_residual(const T* clean, const T* rainy, const T* estimate, T* out, int64_t count, int64_t pixels,
                   int threads) {
  const int64_t half = 3 * pixels;
#pragma omp parallel for schedule(static) num_threads(useful_threads(threads, count* half))
  for (int64_t image = 0; image < count; ++image) {
    const int64_t here = image * half;
    std::memcpy(out + 2 * here, clean + here, half * sizeof(T));
    subtract(rainy + here, estimate + here, out + 2 * here + half, half);
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
