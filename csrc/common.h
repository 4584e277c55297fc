// What every formula header needs: host/device marking, image sizes and the Gaussian window.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define RGSUD_HD __host__ __device__ inline
#else
#define RGSUD_HD inline
#endif

// The CPU kernels are compiled once per instruction set. The namespace keeps the copies of shared inline code apart:
// the linker would otherwise merge them, and an old processor could meet a new one's instructions.
#ifndef RGSUD_ISA
#define RGSUD_ISA generic
#endif

namespace rgsud {

// Sizes of a stack of image planes, N * C of them, one after another in memory; or, on the GPU, with the channels last:
// `last` of them, or none.
struct Planes {
  int64_t planes, height, width, last = 0;

  int64_t pixels() const { return planes * height * width; }
};

inline namespace RGSUD_ISA {

// A stack of planes beside one of twice as many, in which the `channels` of each image come twice: the image itself,
// then what was made of it. Where plane p's result lies; its image lies `channels` planes before. 0: not doubled.
RGSUD_HD int64_t beside_plane(int64_t p, int64_t channels) { return channels ? p + (p / channels + 1) * channels : p; }

// Where a plane's pixels lie: pixel i at first + i * step. `last` as in Planes.
struct Place {
  int64_t first, step;
};

RGSUD_HD Place place_of(int64_t plane, int64_t pixels, int64_t last) {
  return last ? Place{plane / last * last * pixels + plane % last, last} : Place{plane * pixels, 1};
}

// Normalised Gaussian window, its centre at tap[Taps / 2].
template <typename T, int Taps>
struct Gaussian {
  T tap[Taps];

  explicit Gaussian(double sigma) {
    double weight[Taps], sum = 0;
    for (int k = 0; k < Taps; ++k) {
      const double away = k - Taps / 2;
      weight[k] = std::exp(-away * away / (2 * sigma * sigma));
      sum += weight[k];
    }
    for (int k = 0; k < Taps; ++k) tap[k] = static_cast<T>(weight[k] / sum);
  }
};

}  // namespace RGSUD_ISA
}  // namespace rgsud
