// CUDA kernel of reward_candidate: a tile of the candidate and its layer with a halo in shared memory, windows summed
// down, then along; a second kernel adds up the tiles. Compiled for sm_80 and sm_90; not yet measured on a GPU.
#include "cuda_launchers.h"
#include "reward_candidate.h"
#include "tile.cuh"

namespace rgsud {
inline namespace RGSUD_ISA {
namespace {

constexpr int kTile = 32, kThreadsY = 8, kThreads = kTile * kThreadsY, kHaloTile = kTile + 2 * kLayerReach;

// The candidate's pixel at `at` of a plane, red, green and blue; `opposite` is the place of its mirror image.
__device__ void candidate_pixel(const CandidateImages& images, int64_t plane, int64_t at, int64_t opposite, float* to) {
  for (int c = 0; c < 3; ++c) {
    to[c] = images.derained[c * plane + at];
    if (!images.image) continue;
    to[c] = in_range(to[c]);
    if (images.mirrored) to[c] = (to[c] + in_range(images.mirrored[c * plane + opposite])) / 2;
  }
  if (!images.image || !images.grey_layer) return;
  const float red = images.rainy[at], green = images.rainy[plane + at], blue = images.rainy[2 * plane + at];
  const float layer = grey(red - to[0], green - to[1], blue - to[2]);
  to[0] = in_range(red - layer), to[1] = in_range(green - layer), to[2] = in_range(blue - layer);
}

__device__ void block_add(LayerSums& sums, double* shared) {
  double* fields[] = {&sums.value, &sums.square, &sums.removed, &sums.change, &sums.spread, &sums.low, &sums.negative};
#pragma unroll
  for (double* field : fields) {
    *field = block_sum<kThreads>(*field, shared);
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kThreads) fwd_kernel(CandidateImages images,            // [count, 3, height, width]
                                                       LayerSums* __restrict__ partials,  // [count, tiles]
                                                       CandidateSize size, int64_t tiles_x, int64_t tiles_y) {
  __shared__ float layer[3][kHaloTile][kHaloTile];
  __shared__ float down[kTile][kHaloTile];
  __shared__ double sum_of[kThreads];

  const int64_t tile = blockIdx.x, plane = size.pixels(), image = tile / (tiles_x * tiles_y) * 3 * plane;
  const int64_t left = tile % tiles_x * kTile, top = tile / tiles_x % tiles_y * kTile;
  const int thread = threadIdx.y * kTile + threadIdx.x;
  images.rainy += image, images.derained += image;
  if (images.mirrored) images.mirrored += image;
  if (images.image) images.image += image;
  LayerSums sums = {};

  // The layer with its halo, nothing outside the image; inside the tile also the candidate and its own sums.
  for (int i = thread; i < kHaloTile * kHaloTile; i += kThreads) {
    const int r = i / kHaloTile, c = i % kHaloTile;
    const int64_t y = top + r - kLayerReach, x = left + c - kLayerReach, at = y * size.width + x;
    const bool inside = y >= 0 && y < size.height && x >= 0 && x < size.width;
    const bool mine =
        inside && r >= kLayerReach && r < kLayerReach + kTile && c >= kLayerReach && c < kLayerReach + kTile;
    float made[3], taken[3] = {0, 0, 0};
    if (inside) candidate_pixel(images, plane, at, (y + 1) * size.width - 1 - x, made);
    for (int channel = 0; channel < 3; ++channel) {
      if (inside) taken[channel] = images.rainy[channel * plane + at] - made[channel];
      layer[channel][r][c] = taken[channel];
      if (!mine) continue;
      if (images.image) images.image[channel * plane + at] = made[channel];
      sums.value += made[channel];
      sums.square += static_cast<double>(made[channel]) * made[channel];
      sums.removed += std::fabs(taken[channel]);
      sums.negative -= taken[channel] > 0 ? 0.0f : taken[channel];  // NaN stays
    }
    if (mine) sums.spread += channel_spread(taken[0], taken[1], taken[2]);
  }
  __syncthreads();

  for (int channel = 0; channel < 3; ++channel) {
    // Windows summed down the columns.
    for (int i = thread; i < kTile * kHaloTile; i += kThreads) {
      float sum = 0;
      for (int k = 0; k < kLayerWindow; ++k) sum += layer[channel][i / kHaloTile + k][i % kHaloTile];
      down[i / kHaloTile][i % kHaloTile] = sum;
    }
    __syncthreads();

    // Then along the rows.
    const int64_t x = left + threadIdx.x;
    for (int r = threadIdx.y; r < kTile; r += kThreadsY) {
      const int64_t y = top + r;
      if (x >= size.width || y >= size.height) continue;
      float sum = 0;
      for (int k = 0; k < kLayerWindow; ++k) sum += down[r][threadIdx.x + k];
      const double mean = std::fabs(sum) / (window_count(x, size.width) * window_count(y, size.height));
      sums.low += mean;
      if (guard_window_at(x, size.width) && guard_window_at(y, size.height)) sums.change += mean;
    }
    __syncthreads();
  }

  block_add(sums, sum_of);
  if (thread == 0) partials[tile] = sums;
}

// One block per image.
__global__ void __launch_bounds__(kThreads) sum_kernel(const LayerSums* __restrict__ partials,  // [count, tiles]
                                                       double* __restrict__ layers,             // [count, 6]
                                                       CandidateSize size, int64_t tiles) {
  __shared__ double sum_of[kThreads];
  LayerSums sums = {};
  for (int64_t i = threadIdx.x; i < tiles; i += kThreads) sums.add(partials[blockIdx.x * tiles + i]);
  block_add(sums, sum_of);
  if (threadIdx.x == 0) sums.describe(size, layers + blockIdx.x * int64_t{kLayerNumbers});
}

}  // namespace
}  // namespace RGSUD_ISA

void reward_candidate_cuda(const CandidateImages& images, LayerSums* partials, double* layers,
                           const CandidateSize& size, Stream stream) {
  const int64_t tiles_x = tiles(size.width, kTile), tiles_y = tiles(size.height, kTile);
  fwd_kernel<<<static_cast<unsigned>(size.count * tiles_x * tiles_y), dim3(kTile, kThreadsY), 0,
               static_cast<cudaStream_t>(stream)>>>(images, partials, size, tiles_x, tiles_y);
  sum_kernel<<<static_cast<unsigned>(size.count), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      partials, layers, size, tiles_x * tiles_y);
  check_launch("reward_candidate");
}

int64_t reward_candidate_cuda_partials(const CandidateSize& size) {
  return size.count * tiles(size.width, kTile) * tiles(size.height, kTile) * (sizeof(LayerSums) / sizeof(double));
}

}  // namespace rgsud
