// CUDA kernel of high_pass, forward and adjoint: a tile with its halo in shared memory, blurred along, then down.
// Compiled for sm_80 and sm_90; not yet measured on a GPU.
#include "cuda_launchers.h"
#include "high_pass.h"
#include "tile.cuh"

namespace rgsud {
inline namespace RGSUD_ISA {
namespace {

constexpr int kTileX = 32, kTileY = 32, kThreadsY = 8, kRowsPerThread = kTileY / kThreadsY;
constexpr int kTileRows = kTileY + 2 * kBlurRadius, kTileColumns = kTileX + 2 * kBlurRadius;

// Weight of the band's k-th pixel for the blurred pixel at `here`: one row of the matrix, or of its transpose.
template <typename T>
__device__ T band_weight(const BlurWindow<T>& window, int64_t here, int k, int64_t size, bool adjoint) {
  const int64_t other = here + k - kBlurRadius;
  return adjoint ? blur_weight(window, other, here, size) : blur_weight(window, here, other, size);
}

// True where every pixel of a tile is so far inside that its weights are the plain window, in both directions.
__device__ bool plain(int64_t begin, int64_t tile, int64_t size) {
  return begin >= 2 * kBlurRadius && begin + tile <= size - 2 * kBlurRadius;
}

template <typename T>
__global__ void __launch_bounds__(kTileX* kThreadsY)
    fwd_kernel(const T* __restrict__ in,  // [planes, height, width], twice the planes for an adjoint `beside`
               T* __restrict__ out,       // the same, twice the planes for a forward `beside`
               Planes size, int64_t beside, int64_t tiles_x, int64_t tiles_y, BlurWindow<typename Wide<T>::Type> window,
               bool adjoint) {
  using W = typename Wide<T>::Type;
  __shared__ W pixel[kTileRows][kTileColumns];
  __shared__ W along[kTileRows][kTileX];
  __shared__ W weight_x[kBlurTaps][kTileX], weight_y[kTileY][kBlurTaps];

  // One tile per block: blockIdx.x counts them all, as planes may outnumber the grid's other axes.
  const int64_t tile = blockIdx.x;
  const int64_t left = tile % tiles_x * kTileX, top = tile / tiles_x % tiles_y * kTileY;
  const int64_t pixels = size.height * size.width, image = beside * (size.last ? 1 : pixels);
  const int64_t plane = tile / (tiles_x * tiles_y);
  const Place single = place_of(plane, pixels, size.last),
              doubled = place_of(beside_plane(plane, beside), pixels, beside ? 2 * size.last : size.last),
              read = adjoint ? doubled : single, written = adjoint ? single : doubled;
  const T* from = in + read.first;
  T* to = out + written.first;
  const int thread = threadIdx.y * kTileX + threadIdx.x;

  // Load the tile with its halo; what lies outside the image is 0 and its reflection is in the weights.
  for (int i = thread; i < kTileRows * kTileColumns; i += kTileX * kThreadsY) {
    const int r = i / kTileColumns, c = i % kTileColumns;
    const int64_t y = top + r - kBlurRadius, x = left + c - kBlurRadius;
    const bool inside = y >= 0 && y < size.height && x >= 0 && x < size.width;
    pixel[r][c] = inside ? static_cast<W>(from[(y * size.width + x) * read.step]) : W(0);
  }
  for (int i = thread; i < kBlurTaps * kTileX; i += kTileX * kThreadsY)
    weight_x[i / kTileX][i % kTileX] = band_weight(window, left + i % kTileX, i / kTileX, size.width, adjoint);
  for (int i = thread; i < kBlurTaps * kTileY; i += kTileX * kThreadsY)
    weight_y[i / kBlurTaps][i % kBlurTaps] =
        band_weight(window, top + i / kBlurTaps, i % kBlurTaps, size.height, adjoint);
  __syncthreads();

  // Blur along the rows.
  const bool plain_x = plain(left, kTileX, size.width), plain_y = plain(top, kTileY, size.height);
  for (int r = threadIdx.y; r < kTileRows; r += kThreadsY) {
    W sum = 0;
#pragma unroll
    for (int k = 0; k < kBlurTaps; ++k)
      sum += (plain_x ? window.tap[k] : weight_x[k][threadIdx.x]) * pixel[r][threadIdx.x + k];
    along[r][threadIdx.x] = sum;
  }
  __syncthreads();

  // Blur down neighbouring rows per thread: 18 values serve 4 pixels.
  const int first = threadIdx.y * kRowsPerThread;
  W column[kRowsPerThread + 2 * kBlurRadius];
#pragma unroll
  for (int i = 0; i < kRowsPerThread + 2 * kBlurRadius; ++i) column[i] = along[first + i][threadIdx.x];
#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i) {
    W sum = 0;
#pragma unroll
    for (int k = 0; k < kBlurTaps; ++k) sum += (plain_y ? window.tap[k] : weight_y[first + i][k]) * column[i + k];
    const int64_t y = top + first + i, x = left + threadIdx.x;
    if (y >= size.height || x >= size.width) continue;
    const int64_t pixel_at = y * size.width + x, at = pixel_at * written.step;
    const W here = pixel[first + i + kBlurRadius][threadIdx.x + kBlurRadius];
    to[at] =
        static_cast<T>(here - sum + (adjoint && image ? static_cast<W>((from - image)[pixel_at * read.step]) : W(0)));
    if (!adjoint && image) (to - image)[at] = static_cast<T>(here);
  }
}

}  // namespace
}  // namespace RGSUD_ISA

template <typename T>
void high_pass_cuda(const T* in, T* out, Planes size, bool adjoint, int64_t beside, Stream stream) {
  const int64_t tiles_x = tiles(size.width, kTileX), tiles_y = tiles(size.height, kTileY);
  const BlurWindow<typename Wide<T>::Type> window(kBlurSigma);
  fwd_kernel<T><<<static_cast<unsigned>(size.planes * tiles_x * tiles_y), dim3(kTileX, kThreadsY), 0,
                  static_cast<cudaStream_t>(stream)>>>(in, out, size, beside, tiles_x, tiles_y, window, adjoint);
  check_launch("high_pass");
}

template void high_pass_cuda<float>(const float*, float*, Planes, bool, int64_t, Stream);
template void high_pass_cuda<double>(const double*, double*, Planes, bool, int64_t, Stream);
template void high_pass_cuda<__nv_bfloat16>(const __nv_bfloat16*, __nv_bfloat16*, Planes, bool, int64_t, Stream);

}  // namespace rgsud
