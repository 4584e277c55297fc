// CUDA kernels of ssim: one scores the windows of a tile and leaves the derivatives at their moments, one gathers the
// gradients from these, one adds the tiles' sums in a fixed order. Compiled for sm_80 and sm_90; not yet measured.
#include "cuda_launchers.h"
#include "ssim.h"
#include "tile.cuh"

namespace rgsud {
inline namespace RGSUD_ISA {
namespace {

constexpr int kTileX = 32, kTileY = 16, kThreadsY = 8, kThreads = kTileX * kThreadsY;
constexpr int kHalo = kSsimTaps - 1, kTileRows = kTileY + kHalo, kTileColumns = kTileX + kHalo;
constexpr int kRowsPerThread = kTileY / kThreadsY;

template <typename T>
using SsimWindow = Gaussian<T, kSsimTaps>;

// One tile: its plane, its first row and column.
struct Tile {
  int64_t plane, top, left;

  __device__ Tile(int64_t index, int64_t tiles_x, int64_t tiles_y)
      : plane(index / (tiles_x * tiles_y)), top(index / tiles_x % tiles_y * kTileY), left(index % tiles_x * kTileX) {}
};

// Blur four fields along their rows, one after the other, and leave them in `along`.
template <typename T, typename Field>
__device__ void blur_along(const SsimWindow<T>& window, T (&along)[4][kTileRows][kTileX], const Field& field) {
  for (int r = threadIdx.y; r < kTileRows; r += kThreadsY) {
    Moments<T> sum = {0, 0, 0, 0};
#pragma unroll
    for (int k = 0; k < kSsimTaps; ++k) {
      const Moments<T> here = field(r, threadIdx.x + k);
      sum.x += window.tap[k] * here.x;
      sum.y += window.tap[k] * here.y;
      sum.squares += window.tap[k] * here.squares;
      sum.product += window.tap[k] * here.product;
    }
    along[0][r][threadIdx.x] = sum.x;
    along[1][r][threadIdx.x] = sum.y;
    along[2][r][threadIdx.x] = sum.squares;
    along[3][r][threadIdx.x] = sum.product;
  }
}

// Blur them down at one row of the tile.
template <typename T>
__device__ Moments<T> blur_down(const SsimWindow<T>& window, const T (&along)[4][kTileRows][kTileX], int row) {
  T sum[4] = {0, 0, 0, 0};
#pragma unroll
  for (int k = 0; k < kSsimTaps; ++k)
#pragma unroll
    for (int f = 0; f < 4; ++f) sum[f] += window.tap[k] * along[f][row + k][threadIdx.x];
  return {sum[0], sum[1], sum[2], sum[3]};
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    fwd_kernel(const T* __restrict__ x,        // [planes, height, width], as `size.last` says
               const T* __restrict__ y,        // the same
               T* __restrict__ moments,        // [4, planes, height - 10, width - 10] derivatives, or null
               double* __restrict__ partials,  // [tiles] sums of the score
               double* __restrict__ squares,   // [tiles] sums of the squared difference, or null
               Planes size, int64_t tiles_x, int64_t tiles_y, SsimWindow<T> window) {
  __shared__ T pixel[2][kTileRows][kTileColumns];
  __shared__ T along[4][kTileRows][kTileX];
  __shared__ double sums[kThreads];
  const Tile tile(blockIdx.x, tiles_x, tiles_y);
  const Place place = place_of(tile.plane, size.height * size.width, size.last);
  const int thread = threadIdx.y * kTileX + threadIdx.x;

  for (int i = thread; i < kTileRows * kTileColumns; i += kThreads) {
    const int64_t row = tile.top + i / kTileColumns, column = tile.left + i % kTileColumns;
    const bool inside = row < size.height && column < size.width;
    const int64_t at = place.first + (row * size.width + column) * place.step;
    pixel[0][i / kTileColumns][i % kTileColumns] = inside ? x[at] : T(0);
    pixel[1][i / kTileColumns][i % kTileColumns] = inside ? y[at] : T(0);
  }
  __syncthreads();

  blur_along(window, along, [&](int r, int c) -> Moments<T> {
    const T a = pixel[0][r][c], b = pixel[1][r][c];
    return {a, b, a * a + b * b, a * b};
  });
  __syncthreads();

  const int64_t rows = size.height - kHalo, columns = size.width - kHalo, field = size.planes * rows * columns;
  double sum = 0;
  for (int r = threadIdx.y; r < kTileY; r += kThreadsY) {
    const int64_t row = tile.top + r, column = tile.left + threadIdx.x;
    if (row >= rows || column >= columns) continue;
    const WindowScore<T> score = window_score<T, T>(blur_down(window, along, r));
    sum += score.value;
    if (moments) {
      T* at = moments + (tile.plane * rows + row) * columns + column;
      at[0] = score.v.x;
      at[field] = score.v.y;
      at[2 * field] = score.v.squares;
      at[3 * field] = score.v.product;
    }
  }
  sum = block_sum<kThreads>(sum, sums);
  if (thread == 0) partials[blockIdx.x] = sum;
  if (!squares) return;

  // Every pixel once: the last tile of an axis also has the pixels at which no window begins.
  const int64_t below = tile.top + kTileY < rows ? kTileY : size.height - tile.top;
  const int64_t right = tile.left + kTileX < columns ? kTileX : size.width - tile.left;
  double error = 0;
  for (int i = thread; i < below * right; i += kThreads) {
    const T difference = pixel[0][i / right][i % right] - pixel[1][i / right][i % right];
    error += difference * difference;
  }
  __syncthreads();  // thread 0 has read the sum of scores
  error = block_sum<kThreads>(error, sums);
  if (thread == 0) squares[blockIdx.x] = error;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    bwd_kernel(const T* __restrict__ x,        // [planes, height, width], as `size.last` says
               const T* __restrict__ y,        // the same
               const T* __restrict__ moments,  // [4, planes, height - 10, width - 10]
               T* __restrict__ v_x,            // as x, or null
               T* __restrict__ v_y,            // the same
               Planes size, int64_t tiles_x, int64_t tiles_y, SsimWindow<T> window, T share) {
  __shared__ T derivative[kTileRows][kTileColumns];
  __shared__ T along[kTileRows][kTileX];
  const Tile tile(blockIdx.x, tiles_x, tiles_y);
  const Place place = place_of(tile.plane, size.height * size.width, size.last);
  const int64_t rows = size.height - kHalo, columns = size.width - kHalo, field = size.planes * rows * columns;
  T v[4][kRowsPerThread];

  // One moment after the other: four at once would not fit the shared memory in float64.
#pragma unroll
  for (int f = 0; f < 4; ++f) {
    // A pixel is touched by the windows that begin at it or up to 10 rows above and columns to the left.
    for (int i = threadIdx.y * kTileX + threadIdx.x; i < kTileRows * kTileColumns; i += kThreads) {
      const int64_t row = tile.top + i / kTileColumns - kHalo, column = tile.left + i % kTileColumns - kHalo;
      const bool inside = row >= 0 && row < rows && column >= 0 && column < columns;
      derivative[i / kTileColumns][i % kTileColumns] =
          inside ? moments[f * field + (tile.plane * rows + row) * columns + column] : T(0);
    }
    __syncthreads();

    for (int r = threadIdx.y; r < kTileRows; r += kThreadsY) {
      T sum = 0;
#pragma unroll
      for (int k = 0; k < kSsimTaps; ++k) sum += window.tap[k] * derivative[r][threadIdx.x + k];
      along[r][threadIdx.x] = sum;
    }
    __syncthreads();

#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      v[f][i] = 0;
#pragma unroll
      for (int k = 0; k < kSsimTaps; ++k)
        v[f][i] += window.tap[k] * along[threadIdx.y + i * kThreadsY + k][threadIdx.x];
    }
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i) {
    const int64_t row = tile.top + threadIdx.y + i * kThreadsY, column = tile.left + threadIdx.x;
    if (row >= size.height || column >= size.width) continue;
    const int64_t at = place.first + (row * size.width + column) * place.step;
    if (v_x) v_x[at] = share * (v[0][i] + 2 * x[at] * v[2][i] + y[at] * v[3][i]);
    if (v_y) v_y[at] = share * (v[1][i] + 2 * y[at] * v[2][i] + x[at] * v[3][i]);
  }
}

// The second pass of the sum: one block, whatever the number of tiles.
template <typename T>
__global__ void sum_kernel(const double* __restrict__ partials,  // [count]
                           T* __restrict__ value,                // scalar
                           int64_t count, double share) {
  __shared__ double sums[kThreads];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += partials[i];
  sum = block_sum<kThreads>(sum, sums);
  if (threadIdx.x == 0) *value = static_cast<T>(sum * share);
}

}  // namespace
}  // namespace RGSUD_ISA

int64_t ssim_cuda_partials(Planes size) {
  return size.planes * tiles(size.height - kHalo, kTileY) * tiles(size.width - kHalo, kTileX);
}

template <typename T>
void ssim_cuda(const T* x, const T* y, T* value, T* v_x, T* v_y, T* moments, double* partials, double* squares,
               Planes size, Stream stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  const SsimWindow<T> window(kSsimSigma);
  const double share = 1.0 / (static_cast<double>(size.planes) * (size.height - kHalo) * (size.width - kHalo));
  const dim3 threads(kTileX, kThreadsY);

  const int64_t windows = ssim_cuda_partials(size);
  fwd_kernel<T><<<static_cast<unsigned>(windows), threads, 0, queue>>>(x, y, moments, partials, squares, size,
                                                                       tiles(size.width - kHalo, kTileX),
                                                                       tiles(size.height - kHalo, kTileY), window);
  check_launch("ssim forward");
  sum_kernel<T><<<1, kThreads, 0, queue>>>(partials, value, windows, share);
  check_launch("ssim sum");
  if (!v_x && !v_y) return;

  const int64_t tiles_x = tiles(size.width, kTileX), tiles_y = tiles(size.height, kTileY);
  bwd_kernel<T><<<static_cast<unsigned>(size.planes * tiles_x * tiles_y), threads, 0, queue>>>(
      x, y, moments, v_x, v_y, size, tiles_x, tiles_y, window, static_cast<T>(share));
  check_launch("ssim backward");
}

template void ssim_cuda<float>(const float*, const float*, float*, float*, float*, float*, double*, double*, Planes,
                               Stream);
template void ssim_cuda<double>(const double*, const double*, double*, double*, double*, double*, double*, double*,
                                Planes, Stream);

}  // namespace rgsud
