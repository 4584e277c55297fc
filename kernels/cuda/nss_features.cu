// CUDA kernels of nss_features: brightness, half scale, local normalisation of both scales, the tails of every strip of
// a block, and one thread per fit. Compiled for sm_80 and sm_90; not yet measured.
#include "cuda_launchers.h"
#include "nss_features.h"
#include "tile.cuh"

namespace rgsud {
inline namespace RGSUD_ISA {
namespace {

constexpr int kTileX = 32, kTileY = 16, kThreadsY = 8, kThreads = kTileX * kThreadsY;
constexpr int kTileRows = kTileY + 2 * kNssRadius, kTileColumns = kTileX + 2 * kNssRadius;
constexpr int kWarp = 32, kWarps = kThreads / kWarp, kSums = 5 * kFits;  // a block's sums: the fields of its Tails
constexpr int64_t kStripPixels = 16384;                                  // of a block of threads, about: 64 per thread

using Window = Gaussian<double, kNssTaps>;

__device__ int64_t clamped(int64_t at, int64_t size) { return at < 0 ? 0 : at < size ? at : size - 1; }

// One thread per pixel of the part that is described.
template <typename T>
__global__ void __launch_bounds__(kThreads) grey_kernel(const T* __restrict__ images,  // [images, 3, plane]
                                                        float* __restrict__ grey,      // [images, height[0], width[0]]
                                                        NssSize size, NssForm form) {
  const int64_t pixels = size.height[0] * size.width[0], plane = size.plane_height * size.plane_width;
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= size.images * pixels) return;
  const int64_t image = at / pixels, y = at % pixels / size.width[0], x = at % size.width[0];
  const T* red = images + 3 * image * plane + y * size.plane_width + x;
  grey[at] = static_cast<float>(form.grey_level(red[0], red[plane], red[2 * plane]));  // whole levels, or floats
}

// One thread per pixel at half scale.
__global__ void __launch_bounds__(kThreads)
    half_kernel(const float* __restrict__ grey,  // [images, height[0], width[0]]
                double* __restrict__ half,       // [images, height[1], width[1]]
                NssSize size, bool single) {
  const int64_t pixels = size.height[1] * size.width[1];
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= size.images * pixels) return;
  const int64_t image = at / pixels, y = at % pixels / size.width[1], x = at % size.width[1];
  const float* plane = grey + image * size.height[0] * size.width[0];
  double sum = 0;
  for (int64_t i = 0; i < size.across.count; ++i) {
    const int64_t column = size.across.index[x * size.across.count + i];
    double along = 0;
    for (int64_t k = 0; k < size.down.count; ++k)
      along += size.down.weight[y * size.down.count + k] *
               plane[size.down.index[y * size.down.count + k] * size.width[0] + column];
    sum += size.across.weight[x * size.across.count + i] * along;
  }
  half[at] = single ? rounded(sum) : sum;
}

// n = (x - mean) / (deviation + constant) of a tile of one image at one scale.
template <typename In>
__global__ void __launch_bounds__(kThreads)
    normalise_kernel(const In* __restrict__ levels,  // [images, height, width]
                     float* __restrict__ normal,     // the same
                     int64_t height, int64_t width, int64_t tiles_x, int64_t tiles_y, NssForm form, Window window) {
  __shared__ double level[kTileRows][kTileColumns];
  __shared__ double mean[kTileRows * kTileColumns], square[kTileRows * kTileColumns];
  const int64_t image = blockIdx.x / (tiles_x * tiles_y), top = blockIdx.x / tiles_x % tiles_y * kTileY;
  const int64_t left = blockIdx.x % tiles_x * kTileX;
  const In* from = levels + image * height * width;
  float* to = normal + image * height * width;
  const int thread = threadIdx.y * kTileX + threadIdx.x;

  // Load the tile, its border replicated beyond the image.
  for (int i = thread; i < kTileRows * kTileColumns; i += kThreads) {
    const int64_t y = clamped(top + i / kTileColumns - kNssRadius, height);
    level[i / kTileColumns][i % kTileColumns] = from[y * width + clamped(left + i % kTileColumns - kNssRadius, width)];
  }
  __syncthreads();

  // Blur the levels and their squares along one side: down, or as OpenCV does along the rows.
  double tap[kNssTaps];
  for (int k = 0; k < kNssTaps; ++k) tap[k] = form.single ? rounded(window.tap[k]) : window.tap[k];
  const int rows = form.single ? kTileRows : kTileY, columns = form.single ? kTileX : kTileColumns;
  for (int i = thread; i < rows * columns; i += kThreads) {
    const int r = i / columns, c = i % columns;
    double sum = 0, squares = 0;
    for (int k = 0; k < kNssTaps; ++k) {
      const double value = form.single ? level[r][c + k] : level[r + k][c];
      if (form.single) {
        sum = rounded(value * tap[k] + sum);
        squares = rounded(rounded(value * value) * tap[k] + squares);
      } else {
        sum += tap[k] * value;
        squares += tap[k] * value * value;
      }
    }
    mean[i] = sum, square[i] = squares;
  }
  __syncthreads();

  // Blur along the other side and normalise.
  for (int r = threadIdx.y; r < kTileY; r += kThreadsY) {
    const int64_t y = top + r, x = left + threadIdx.x;
    if (y >= height || x >= width) continue;
    const double here = level[r + kNssRadius][threadIdx.x + kNssRadius];
    double m = 0, s = 0;
    if (form.single) {
      for (int step = 0; step <= kNssRadius; ++step) {  // the middle row, then pairs around it
        const int one = (r + kNssRadius - step) * columns + threadIdx.x, other = one + 2 * step * columns;
        const double sum = step ? rounded(mean[one] + mean[other]) : mean[one];
        const double squares = step ? rounded(square[one] + square[other]) : square[one];
        m = rounded(sum * tap[kNssRadius + step] + m);
        s = rounded(squares * tap[kNssRadius + step] + s);
      }
      const double variance = rounded(s - rounded(m * m));
      const double value = rounded(rounded(here - m) / rounded(rounded(sqrt(variance)) + rounded(form.constant)));
      to[y * width + x] = static_cast<float>(variance < 0 ? 0.0 : value);
    } else {
      for (int k = 0; k < kNssTaps; ++k) {
        m += tap[k] * mean[r * columns + threadIdx.x + k];
        s += tap[k] * square[r * columns + threadIdx.x + k];
      }
      m *= form.gain, s *= form.gain;
      const double away = here - m, kept = fabs(away) < form.level ? 0.0 : away;
      to[y * width + x] = static_cast<float>(kept / (sqrt(fabs(s - m * m)) + form.constant));
    }
  }
}

// The tails of one strip of one block of one image at one scale: the sums of a block of threads, in a fixed order.
__global__ void __launch_bounds__(kThreads) tails_kernel(const float* __restrict__ normal,  // [images, height, width]
                                                         Tails* __restrict__ tails,  // [images, blocks, strips, kFits]
                                                         int64_t height, int64_t width, int64_t block_height,
                                                         int64_t block_width, int64_t strips, bool cyclic) {
  __shared__ double sums[kWarps][kSums];
  const int64_t columns = width / block_width, blocks = height / block_height * columns;
  const int64_t image = blockIdx.x / (blocks * strips), block = blockIdx.x / strips % blocks;
  const int64_t strip = blockIdx.x % strips, rows = (block_height + strips - 1) / strips;
  const int64_t first = strip * rows, end = first + rows < block_height ? first + rows : block_height;
  const float* from =
      normal + image * height * width + block / columns * block_height * width + block % columns * block_width;

  float below[kFits] = {}, above[kFits] = {}, absolute[kFits] = {};
  int count_below[kFits] = {}, count_above[kFits] = {};
  const int64_t pixels = end > first ? (end - first) * block_width : 0;
  for (int64_t at = threadIdx.x; at < pixels; at += kThreads) {
    const int64_t y = first + at / block_width, x = at % block_width;
    const float here = from[y * width + x];
#pragma unroll
    for (int fit = 0; fit < kFits; ++fit) {
      int64_t ny = y - row_shift(fit), nx = x - column_shift(fit);
      const bool outside = ny < 0 || nx < 0 || nx >= block_width;
      if (outside) ny = ny < 0 ? block_height - 1 : ny, nx = nx < 0 ? block_width - 1 : nx >= block_width ? 0 : nx;
      const float neighbour = fit == 0 ? 1.0f : outside && !cyclic ? 0.0f : from[ny * width + nx];
      const float value = here * neighbour;
      const float low = value < 0 ? value : 0.0f, high = value > 0 ? value : 0.0f;
      below[fit] += low * low;
      above[fit] += high * high;
      absolute[fit] += fabsf(value);  // not high - low: a NaN must come through
      count_below[fit] += value < 0;
      count_above[fit] += value > 0;
    }
  }

  // Add over each warp, then over the warps.
#pragma unroll
  for (int fit = 0; fit < kFits; ++fit) {
    double mine[5] = {below[fit], above[fit], absolute[fit], static_cast<double>(count_below[fit]),
                      static_cast<double>(count_above[fit])};
#pragma unroll
    for (int i = 0; i < 5; ++i) {
      for (int away = kWarp / 2; away > 0; away /= 2) mine[i] += __shfl_down_sync(0xffffffff, mine[i], away);
      if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp][5 * fit + i] = mine[i];
    }
  }
  __syncthreads();
  if (threadIdx.x >= kSums) return;
  double sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += sums[warp][threadIdx.x];
  Tails& to = tails[blockIdx.x * kFits + threadIdx.x / 5];
  switch (threadIdx.x % 5) {
    case 0:
      to.below = sum;
      break;
    case 1:
      to.above = sum;
      break;
    case 2:
      to.absolute = sum;
      break;
    case 3:
      to.count_below = static_cast<int64_t>(sum);
      break;
    default:
      to.count_above = static_cast<int64_t>(sum);
  }
}

// One thread per fit of a block at one scale.
__global__ void __launch_bounds__(kThreads)
    fit_kernel(const Tails* __restrict__ tails,  // [images * blocks, strips, kFits]
               double* __restrict__ features,    // [images * blocks, 36]
               int64_t blocks, int64_t strips, int64_t count, int scale, NssForm form, Shapes shapes) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x, block = at / kFits;
  if (block >= blocks) return;
  const int fit = static_cast<int>(at % kFits);
  Tails sum = {};
  for (int64_t strip = 0; strip < strips; ++strip) sum.add(tails[(block * strips + strip) * kFits + fit]);
  describe(fit, sum, count, form, shapes, features + (2 * block + scale) * kFeatures);
}

unsigned blocks_of(int64_t threads) { return static_cast<unsigned>(tiles(threads, kThreads)); }

int64_t strips_of(const NssSize& size, int scale) {
  const int64_t strips = tiles(size.block_height[scale] * size.block_width[scale], kStripPixels);
  return strips < size.block_height[scale] ? strips : size.block_height[scale];
}

}  // namespace
}  // namespace RGSUD_ISA

int64_t nss_features_cuda_tails(const NssSize& size) {
  return size.images * size.rows() * size.columns() * strips_of(size, 0) * kFits;
}

template <typename T>
void nss_features_cuda(const T* images, float* grey, double* half, float* normal, Tails* tails, double* features,
                       const NssSize& size, const NssForm& form, const Shapes& shapes, Stream stream) {
  const auto queue = static_cast<cudaStream_t>(stream);
  const Window window(kNssSigma);
  const int64_t blocks = size.images * size.rows() * size.columns();
  grey_kernel<T>
      <<<blocks_of(size.images * size.height[0] * size.width[0]), kThreads, 0, queue>>>(images, grey, size, form);
  check_launch("nss_features grey");
  half_kernel<<<blocks_of(size.images * size.height[1] * size.width[1]), kThreads, 0, queue>>>(grey, half, size,
                                                                                               form.single);
  check_launch("nss_features half");
  for (int scale = 0; scale < 2; ++scale) {
    const int64_t height = size.height[scale], width = size.width[scale];
    const int64_t block_height = size.block_height[scale], block_width = size.block_width[scale];
    const int64_t tiles_x = tiles(width, kTileX), tiles_y = tiles(height, kTileY), strips = strips_of(size, scale);
    const auto grid = static_cast<unsigned>(size.images * tiles_x * tiles_y);
    const dim3 threads(kTileX, kThreadsY);
    if (scale == 0)
      normalise_kernel<float><<<grid, threads, 0, queue>>>(grey, normal, height, width, tiles_x, tiles_y, form, window);
    else
      normalise_kernel<double>
          <<<grid, threads, 0, queue>>>(half, normal, height, width, tiles_x, tiles_y, form, window);
    check_launch("nss_features normalise");
    tails_kernel<<<static_cast<unsigned>(blocks * strips), kThreads, 0, queue>>>(
        normal, tails, height, width, block_height, block_width, strips, form.cyclic);
    check_launch("nss_features tails");
    fit_kernel<<<blocks_of(blocks * kFits), kThreads, 0, queue>>>(tails, features, blocks, strips,
                                                                  block_height * block_width, scale, form, shapes);
    check_launch("nss_features fit");
  }
}

template void nss_features_cuda<float>(const float*, float*, double*, float*, Tails*, double*, const NssSize&,
                                       const NssForm&, const Shapes&, Stream);
template void nss_features_cuda<double>(const double*, float*, double*, float*, Tails*, double*, const NssSize&,
                                        const NssForm&, const Shapes&, Stream);

}  // namespace rgsud
