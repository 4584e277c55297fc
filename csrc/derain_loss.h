// The loss of a derained image: negative PSNR and 1 - SSIM, with the derivative of the first.
#pragma once

#include "common.h"

namespace rgsud {
inline namespace RGSUD_ISA {

constexpr double kDecibels = 4.342944819032518;  // 10 / ln 10
constexpr double kErrorFloor = 1e-8;             // keeps the logarithm finite where two images are equal

// One image's share of the mean over `images` of 10 / ln 10 * ln(mse + 1e-8).
RGSUD_HD double psnr_loss(double mse, int64_t images) { return kDecibels / images * log(mse + kErrorFloor); }

// The factor of x - y in the gradient of that share at x, an image of so many elements.
RGSUD_HD double psnr_slope(double mse, int64_t images, int64_t elements) {
  return 2 * kDecibels / (static_cast<double>(images) * elements * (mse + kErrorFloor));
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
