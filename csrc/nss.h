// Natural-scene statistics: grey levels, the windows, and the fit of an asymmetric generalised Gaussian to its moments.
#pragma once

#include "common.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// MATLAB's rgb2gray in full; see ops/nss_features.py for why all digits count.
constexpr double kRed = 0.298936021293775, kGreen = 0.587043074451121, kBlue = 0.114020904255103;
constexpr int kNssTaps = 7, kNssRadius = 3;
constexpr double kNssSigma = 7.0 / 6.0;
constexpr double kLevel = 1e-9;  // grey levels: a pixel this close to its local mean is its local mean
constexpr double kFlat = 1e-10;  // mean square below which a block counts as flat
constexpr int kHalvingTaps = 8;

// Brightness in whole grey levels of a pixel in [0, 1], ties to even.
RGSUD_HD double grey_level(double red, double green, double blue) {
  return rint(kRed * (red * 255) + kGreen * (green * 255) + kBlue * (blue * 255));
}

// MATLAB's imresize(x, 0.5): bicubic (a = -0.5) stretched to 8 taps, the first 3 pixels before twice the place.
struct Halving {
  double tap[kHalvingTaps];

  RGSUD_HD Halving() {
    double sum = 0;
    for (int k = 0; k < kHalvingTaps; ++k) {
      const double away = fabs(k - 3.5) / 2;
      tap[k] = away <= 1 ? (1.5 * away - 2.5) * away * away + 1 : ((-0.5 * away + 2.5) * away - 4) * away + 2;
      sum += tap[k];
    }
    for (int k = 0; k < kHalvingTaps; ++k) tap[k] /= sum;
  }
};

// Place `at`, at most a side beyond, on an axis mirrored at its ends: -1 is 0, size is size - 1.
RGSUD_HD int64_t mirrored(int64_t at, int64_t size) { return at < 0 ? -1 - at : at < size ? at : 2 * size - 1 - at; }

// What a fit needs of the numbers: sums of squares and counts on both sides of 0, the sum of absolute values.
struct Tails {
  double below, above, absolute;
  int64_t count_below, count_above;
};

// The shapes tried and what follows from each; the tables of ops/nss_features.py. `between` has count - 1 entries.
struct Shapes {
  const double *shape, *between, *scale, *centre;
  int64_t count;
};

struct Fitted {
  double shape, left, right, mean;
};

// The distribution whose moments are those of `count` numbers (Lasmar et al., 2009); its shape is NaN for a flat block.
RGSUD_HD Fitted fit_tails(const Tails& t, int64_t count, const Shapes& shapes) {
  const double below = sqrt(t.below / t.count_below), above = sqrt(t.above / t.count_above);
  const double square = (t.below + t.above) / count, absolute = t.absolute / count, skew = below / above;
  const double spread = skew * skew + 1;
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
  const double left = below * shapes.scale[low], right = above * shapes.scale[low];
  return {ratio - ratio == 0 ? shapes.shape[low] : NAN, left, right, (right - left) * shapes.centre[low]};
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
