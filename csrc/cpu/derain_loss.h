// CPU kernels of derain_loss: ssim's walk, which adds up the squared errors, and one pass that joins both gradients.
#pragma once

#include "../derain_loss.h"
#include "scratch.h"
#include "ssim.h"

namespace rgsud {
inline namespace RGSUD_ISA {

template <typename T>
void derain_loss_forward(const T* x, const T* y, T* values, T* v_ssim, double* mse, Planes size, int64_t images,
                         int threads) {
  const int64_t channels = size.planes / images;
  Scratch<double> squares(size.planes);
  T mean;
  ssim<T>(x, y, &mean, v_ssim, nullptr, squares.data(), size, threads);
  double loss = 0;
  for (int64_t image = 0; image < images; ++image) {
    double sum = 0;
    for (int64_t c = 0; c < channels; ++c) sum += squares.data()[image * channels + c];
    mse[image] = sum / (channels * size.height * size.width);
    loss += psnr_loss(mse[image], images);
  }
  values[0] = static_cast<T>(loss);
  values[1] = 1 - mean;
}

template <typename T>
void join_gradients(const T* __restrict x, const T* __restrict y, const T* __restrict v_ssim, T of_ssim, T slope,
                    T* __restrict v_x, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) v_x[i] = slope * (x[i] - y[i]) - of_ssim * v_ssim[i];
}

template <typename T>
void derain_loss_backward(const T* v_values, const T* x, const T* y, const T* v_ssim, const double* mse, T* v_x,
                          int64_t images, int64_t elements, int threads) {
#pragma omp parallel for schedule(static) num_threads(useful_threads(threads, images* elements))
  for (int64_t image = 0; image < images; ++image) {
    const T slope = static_cast<T>(v_values[0] * psnr_slope(mse[image], images, elements));
    const int64_t here = image * elements;
    join_gradients(x + here, y + here, v_ssim + here, v_values[1], slope, v_x + here, elements);
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
