// CPU kernel of nss_features: the grey image at both scales, then block row after block row, normalised in the cache.
#pragma once

#include <cstring>

#include "../nss.h"
#include "kernels.h"
#include "scratch.h"

namespace rgsud {
inline namespace RGSUD_ISA {

constexpr int kShifts[4][2] = {{0, 1}, {1, 0}, {1, 1}, {1, -1}};  // rows and columns to the neighbour
constexpr int kFeatures = 18;                                     // of one scale

// Rows [first, last) of the grey image of one RGB image, cut to `width`. `pitch` and `plane` are the image's.
template <typename T>
void grey_rows(const T* image, int64_t plane, int64_t pitch, int64_t first, int64_t last, int64_t width, double* grey) {
  for (int64_t y = first; y < last; ++y) {
    const T *red = image + y * pitch, *green = red + plane, *blue = green + plane;
    double* to = grey + y * width;
#pragma omp simd
    for (int64_t x = 0; x < width; ++x) to[x] = grey_level(red[x], green[x], blue[x]);
  }
}

// Rows [first, last) of the half-size image. `line` has room for a row of the larger one with its border.
inline void halve_rows(const double* grey, int64_t height, int64_t width, int64_t first, int64_t last, double* line,
                       double* half) {
  const Halving window;
  for (int64_t y = first; y < last; ++y) {
    double* along = line + kHalvingTaps;
    const double* row[kHalvingTaps];
    for (int k = 0; k < kHalvingTaps; ++k) row[k] = grey + mirrored(2 * y - 3 + k, height) * width;
#pragma omp simd
    for (int64_t x = 0; x < width; ++x) {
      double sum = 0;
      for (int k = 0; k < kHalvingTaps; ++k) sum += window.tap[k] * row[k][x];
      along[x] = sum;
    }
    for (int64_t k = 1; k < kHalvingTaps; ++k) {
      along[-k] = along[mirrored(-k, width)];
      along[width - 1 + k] = along[mirrored(width - 1 + k, width)];
    }
    double* to = half + y * (width / 2);
    for (int64_t x = 0; x < width / 2; ++x) {
      double sum = 0;
      for (int k = 0; k < kHalvingTaps; ++k) sum += window.tap[k] * along[2 * x - 3 + k];
      to[x] = sum;
    }
  }
}

// n = (x - mean) / (deviation + 1) of one row, mean and deviation under the Gaussian. `line` has room for two rows with
// their borders.
inline void normalise_row(const Gaussian<double, kNssTaps>& window, const double* grey, int64_t height, int64_t width,
                          int64_t y, double* line, float* to) {
  double *mean = line + kNssRadius, *square = mean + width + 2 * kNssRadius;
  const double* row[kNssTaps];
  for (int k = 0; k < kNssTaps; ++k) {
    const int64_t at = y + k - kNssRadius;
    row[k] = grey + (at < 0 ? 0 : at < height ? at : height - 1) * width;
  }
#pragma omp simd
  for (int64_t x = 0; x < width; ++x) {
    double sum = 0, sum_of_squares = 0;
    for (int k = 0; k < kNssTaps; ++k) {
      const double weighted = window.tap[k] * row[k][x];
      sum += weighted;
      sum_of_squares += weighted * row[k][x];
    }
    mean[x] = sum;
    square[x] = sum_of_squares;
  }
  for (int k = 1; k <= kNssRadius; ++k) {
    mean[-k] = mean[0], square[-k] = square[0];
    mean[width - 1 + k] = mean[width - 1], square[width - 1 + k] = square[width - 1];
  }
  const double* here = grey + y * width;
#pragma omp simd
  for (int64_t x = 0; x < width; ++x) {
    double m = 0, s = 0;
    for (int k = 0; k < kNssTaps; ++k) {
      m += window.tap[k] * mean[x + k - kNssRadius];
      s += window.tap[k] * square[x + k - kNssRadius];
    }
    const double away = here[x] - m, kept = std::fabs(away) < kLevel ? 0.0 : away;
    to[x] = static_cast<float>(kept / (std::sqrt(std::fabs(s - m * m)) + 1));
  }
}

// Adds one row of products of two rows to the tails; `other` null stands for ones.
inline void add_products(const float* __restrict row, const float* __restrict other, int64_t width, Tails& tails) {
  float below = 0, above = 0, absolute = 0;
  int count_below = 0, count_above = 0;
#pragma omp simd reduction(+ : below, above, absolute, count_below, count_above)
  for (int64_t x = 0; x < width; ++x) {
    const float value = other ? row[x] * other[x] : row[x];
    const float low = value < 0 ? value : 0.0f, high = value > 0 ? value : 0.0f;
    below += low * low;
    above += high * high;
    absolute += std::fabs(value);  // not high - low: a NaN must come through
    count_below += value < 0;
    count_above += value > 0;
  }
  tails.below += below;
  tails.above += above;
  tails.absolute += absolute;
  tails.count_below += count_below;
  tails.count_above += count_above;
}

// The 18 features of one block of normalised pixels, [side, side + 2] with the last and the first column beside it.
inline void block_features(const float* block, int64_t side, const Shapes& shapes, double* features) {
  const int64_t pitch = side + 2;
  Tails alone = {}, shifted[4] = {};
  for (int64_t y = 0; y < side; ++y) {
    const float* row = block + y * pitch + 1;
    add_products(row, nullptr, side, alone);
    for (int k = 0; k < 4; ++k) {
      const int64_t from = kShifts[k][0] && y == 0 ? side - 1 : y - kShifts[k][0];
      add_products(row, block + from * pitch + 1 - kShifts[k][1], side, shifted[k]);
    }
  }
  const Fitted fitted = fit_tails(alone, side * side, shapes);
  features[0] = fitted.shape;
  features[1] = (fitted.left + fitted.right) / 2;
  for (int k = 0; k < 4; ++k) {
    const Fitted pair = fit_tails(shifted[k], side * side, shapes);
    double* to = features + 2 + 4 * k;
    to[0] = pair.shape, to[1] = pair.mean, to[2] = pair.left, to[3] = pair.right;
  }
}

// images: [images, 3, height, width]; features: [images, rows of blocks * columns of blocks, 36].
template <typename T>
void nss_features(const T* images, double* features, NssSize size, Shapes shapes, int threads) {
  const int64_t rows = size.height / size.block, columns = size.width / size.block, half_block = size.block / 2;
  const int64_t height = rows * size.block, width = columns * size.block, half_width = width / 2;
  const int64_t pixels = height * width, plane = size.height * size.width, tasks = size.images * rows;
  const Gaussian<double, kNssTaps> window(kNssSigma);
  Scratch<double> grey(size.images * pixels), half(size.images * pixels / 4);

#pragma omp parallel num_threads(useful_threads(threads, size.images * pixels * 8))
  {
    Scratch<double> line(2 * (width + 2 * kHalvingTaps));
    Scratch<float> normal(size.block * width), block(size.block * (size.block + 2));
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t image = task / rows, top = task % rows * size.block;
      grey_rows(images + image * 3 * plane, plane, size.width, top, top + size.block, width,
                grey.data() + image * pixels);
    }
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t image = task / rows, top = task % rows * half_block;
      halve_rows(grey.data() + image * pixels, height, width, top, top + half_block, line.data(),
                 half.data() + image * pixels / 4);
    }
#pragma omp for schedule(static)
    for (int64_t task = 0; task < 2 * tasks; ++task) {
      const int64_t scale = task % 2, image = task / 2 / rows, row = task / 2 % rows;
      const int64_t side = scale ? half_block : size.block, across = scale ? half_width : width;
      const double* plane_of = scale ? half.data() + image * pixels / 4 : grey.data() + image * pixels;
      for (int64_t y = 0; y < side; ++y)
        normalise_row(window, plane_of, rows * side, across, row * side + y, line.data(), normal.data() + y * across);
      for (int64_t column = 0; column < columns; ++column) {
        for (int64_t y = 0; y < side; ++y) {
          const float* from = normal.data() + y * across + column * side;
          float* to = block.data() + y * (side + 2);
          std::memcpy(to + 1, from, side * sizeof(float));
          to[0] = from[side - 1], to[side + 1] = from[0];
        }
        double* to = features + ((image * rows + row) * columns + column) * 2 * kFeatures + scale * kFeatures;
        block_features(block.data(), side, shapes, to);
      }
    }
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
