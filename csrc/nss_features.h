// Natural-scene statistics: grey levels, sizes, and the fits of asymmetric generalised Gaussians to their moments.
#pragma once

#include "common.h"

namespace rgsud {
inline namespace RGSUD_ISA {

constexpr int kNssTaps = 7, kNssRadius = 3;
constexpr double kNssSigma = 7.0 / 6.0;
constexpr double kFlat = 1e-10;  // mean square below which a block counts as flat
// Rounded to float, kept as double: a product and a sum of such numbers is rounded once, as fused ones are.
RGSUD_HD double rounded(double x) { return static_cast<float>(x); }

constexpr int kFits = 5;       // of one block: the pixels, and their products with each of four neighbours
constexpr int kFeatures = 18;  // of one block at one scale

// Rows and columns to the neighbour of a pixel, by which it is multiplied; fit 0 is of the pixels alone.
RGSUD_HD int row_shift(int fit) { return fit >= 2; }
RGSUD_HD int column_shift(int fit) { return fit == 1 || fit == 3 ? 1 : fit == 4 ? -1 : 0; }

// In what published implementations differ; ops/nss_features.py says who does what.
struct NssForm {
  double red, green, blue, constant, gain, level;
  bool cyclic, symmetric, whole, single_grey, single;  // whole: one block, described by variances

  // Brightness in whole grey levels of a pixel, clamped to [0, 1]; ties to even, NaN stays. For `single` levels / 255.
  RGSUD_HD double grey_level(double r, double g, double b) const {
    if (single_grey) {
      const float some = static_cast<float>(rounded(unit(r)) * rounded(red));
      const float more = static_cast<float>(rounded(unit(g)) * rounded(green) + some);
      const float luma = static_cast<float>(rounded(unit(b)) * rounded(blue) + more);
      return rint(rounded(luma * 255.0));
    }
    const double grey = rint(red * (unit(r) * 255) + green * (unit(g) * 255) + blue * (unit(b) * 255));
    return single ? rounded(grey * static_cast<float>(1.0 / 255)) : grey;
  }
  RGSUD_HD static double unit(double x) { return x < 0 ? 0.0 : x > 1 ? 1.0 : x; }
};

// A line resized: pixel i of it is the sum over k < count of weight[i * count + k] * line[index[i * count + k]].
struct Taps {
  const int64_t* index;
  const double* weight;
  int64_t count;
};

// Sizes at full scale and at half: of what is described, and of the blocks it is cut into.
struct NssSize {
  int64_t images, plane_height, plane_width;  // of the RGB images
  int64_t height[2], width[2], block_height[2], block_width[2];
  Taps down, across;

  int64_t rows() const { return height[0] / block_height[0]; }
  int64_t columns() const { return width[0] / block_width[0]; }
};

// What a fit needs of the numbers: sums of squares and counts on both sides of 0, the sum of absolute values.
struct Tails {
  double below, above, absolute;
  int64_t count_below, count_above;

  RGSUD_HD void add(const Tails& other) {
    below += other.below, above += other.above, absolute += other.absolute;
    count_below += other.count_below, count_above += other.count_above;
  }
};

// The shapes tried and what follows from each; the tables of ops/nss_features.py. `between` has count - 1 entries.
struct Shapes {
  const double *shape, *between, *scale, *centre;
  int64_t count;
};

// Fit an asymmetric generalised Gaussian to the tails of `count` numbers (Lasmar et al., 2009) and write what it gives
// of the 18 features of a block at one scale. The shape of a flat block is NaN.
RGSUD_HD void describe(int fit, const Tails& t, int64_t count, const NssForm& form, const Shapes& shapes,
                       double* features) {
  const double square = (t.below + t.above) / count, absolute = t.absolute / count;
  const bool one = form.whole && form.symmetric && fit == 0;
  const double below = sqrt(one ? square : t.below / t.count_below);
  const double above = sqrt(one ? square : t.above / t.count_above);
  const double skew = below / above, spread = skew * skew + 1;
  double ratio = absolute * absolute / square * (skew * skew * skew + 1) * (skew + 1) / (spread * spread);
  if (!(square > kFlat)) ratio = NAN;

  int64_t low = 0, high = shapes.count - 1;  // the first shape whose upper boundary is not below the ratio
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (shapes.between[middle] >= ratio)
      high = middle;
    else
      low = middle + 1;
  }
  double left = below * shapes.scale[low], right = above * shapes.scale[low];
  const double mean = (right - left) * shapes.centre[low];
  if (form.whole) left = below * below, right = above * above;
  double* to = features + (fit == 0 ? 0 : 4 * fit - 2);
  to[0] = ratio - ratio == 0 ? shapes.shape[low] : NAN;
  to[1] = fit == 0 ? (left + right) / 2 : mean;
  if (fit > 0) to[2] = left, to[3] = right;
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
