// What the tiled CUDA kernels share: number types, launch checks and sums in a fixed order.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "common.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// The type sums are kept in: float for everything but double.
template <typename T>
struct Wide {
  using Type = float;
};
template <>
struct Wide<double> {
  using Type = double;
};

inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) throw std::runtime_error(std::string(kernel) + ": " + cudaGetErrorString(error));
}

inline int64_t tiles(int64_t size, int64_t tile) { return (size + tile - 1) / tile; }

// Adds one number per thread in a fixed order; the sum is thread 0's. `shared` holds Threads doubles.
template <int Threads>
__device__ double block_sum(double mine, double* shared) {
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  shared[thread] = mine;
  __syncthreads();
  for (int half = Threads / 2; half > 0; half /= 2) {
    if (thread < half) shared[thread] += shared[thread + half];
    __syncthreads();
  }
  return shared[0];
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
