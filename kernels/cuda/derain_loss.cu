// CUDA kernels of derain_loss around ssim's: one turns the tiles' squared errors into the loss, one joins both
// gradients. Compiled for sm_80 and sm_90; not yet measured.
#include "cuda_launchers.h"
#include "derain_loss.h"
#include "tile.cuh"

namespace rgsud {
inline namespace RGSUD_ISA {
namespace {

constexpr int kThreads = 256;

// One block, since the losses of all images are added in a fixed order.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    fwd_kernel(const double* __restrict__ squares,  // [images, tiles]
               T* __restrict__ values,              // [2]: becomes -PSNR, and 1 - SSIM of SSIM
               double* __restrict__ mse,            // [images]
               int64_t tiles, int64_t images, int64_t elements) {
  __shared__ double sums[kThreads];
  double loss = 0;
  for (int64_t image = 0; image < images; ++image) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < tiles; i += kThreads) sum += squares[image * tiles + i];
    sum = block_sum<kThreads>(sum, sums) / elements;
    if (threadIdx.x == 0) {
      mse[image] = sum;
      loss += psnr_loss(sum, images);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    values[0] = static_cast<T>(loss);
    values[1] = 1 - values[1];
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) bwd_kernel(const T* __restrict__ v_values,  // [2]
                                                       const T* __restrict__ x,         // [images, elements]
                                                       const T* __restrict__ y,         // the same
                                                       const T* __restrict__ v_ssim,    // the same
                                                       const double* __restrict__ mse,  // [images]
                                                       T* __restrict__ v_x,             // [images, elements]
                                                       int64_t images, int64_t elements) {
  const int64_t image = blockIdx.y;
  const T slope = static_cast<T>(v_values[0] * psnr_slope(mse[image], images, elements)), of_ssim = v_values[1];
  for (int64_t i = blockIdx.x * int64_t{kThreads} + threadIdx.x; i < elements; i += int64_t{gridDim.x} * kThreads) {
    const int64_t at = image * elements + i;
    v_x[at] = slope * (x[at] - y[at]) - of_ssim * v_ssim[at];
  }
}

}  // namespace
}  // namespace RGSUD_ISA

template <typename T>
void derain_loss_forward_cuda(const double* squares, int64_t tiles, T* values, double* mse, int64_t images,
                              int64_t elements, Stream stream) {
  fwd_kernel<T><<<1, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(squares, values, mse, tiles, images, elements);
  check_launch("derain_loss forward");
}

template <typename T>
void derain_loss_backward_cuda(const T* v_values, const T* x, const T* y, const T* v_ssim, const double* mse, T* v_x,
                               int64_t images, int64_t elements, Stream stream) {
  const dim3 blocks(static_cast<unsigned>(tiles(elements, 4 * kThreads)), static_cast<unsigned>(images));
  bwd_kernel<T>
      <<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(v_values, x, y, v_ssim, mse, v_x, images, elements);
  check_launch("derain_loss backward");
}

template void derain_loss_forward_cuda<float>(const double*, int64_t, float*, double*, int64_t, int64_t, Stream);
template void derain_loss_forward_cuda<double>(const double*, int64_t, double*, double*, int64_t, int64_t, Stream);
template void derain_loss_backward_cuda<float>(const float*, const float*, const float*, const float*, const double*,
                                               float*, int64_t, int64_t, Stream);
template void derain_loss_backward_cuda<double>(const double*, const double*, const double*, const double*,
                                                const double*, double*, int64_t, int64_t, Stream);

}  // namespace rgsud
