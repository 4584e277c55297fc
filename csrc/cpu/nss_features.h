// CPU kernel of nss_features: the grey image at both scales, then strip after strip, normalised in the cache.
#pragma once

#include <cstring>

#include "../nss_features.h"
#include "resize.h"
#include "scratch.h"
#include "table.h"

namespace rgsud {
inline namespace RGSUD_ISA {

constexpr int64_t kStripRows = 64;  // of a block that is a whole image

// Rows [first, last) of the grey image of one RGB image, cut to `width`. `pitch` and `plane` are the image's.
template <typename T>
void grey_rows(const T* image, const NssForm& form, int64_t plane, int64_t pitch, int64_t first, int64_t last,
               int64_t width, double* grey) {
  for (int64_t y = first; y < last; ++y) {
    const T *red = image + y * pitch, *green = red + plane, *blue = green + plane;
    double* to = grey + y * width;
#pragma omp simd
    for (int64_t x = 0; x < width; ++x) to[x] = form.grey_level(red[x], green[x], blue[x]);
  }
}

// n = (x - mean) / (deviation + constant) of one row, mean and deviation under the Gaussian. `line` has room for two
// rows with their borders.
inline void normalise_row(const Gaussian<double, kNssTaps>& window, const NssForm& form, const double* grey,
                          int64_t height, int64_t width, int64_t y, double* line, float* to) {
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
    m *= form.gain, s *= form.gain;
    const double away = here[x] - m, kept = std::fabs(away) < form.level ? 0.0 : away;
    to[x] = static_cast<float>(kept / (std::sqrt(std::fabs(s - m * m)) + form.constant));
  }
}

// The same in OpenCV's float: along rows by fused multiply-adds, then down columns by pairs.
inline void normalise_row_single(const Gaussian<double, kNssTaps>& window, const NssForm& form, const double* grey,
                                 int64_t height, int64_t width, int64_t y, double* line, float* to) {
  double *mean = line, *square = line + width, *padded = line + 2 * width + kNssRadius;
  const double constant = rounded(form.constant);
  double tap[kNssTaps];
  for (int k = 0; k < kNssTaps; ++k) tap[k] = rounded(window.tap[k]);
  // Rows in the order in which they are added: the middle one, then pairs around it.
  for (int step = 0; step <= kNssRadius; ++step) {
    double* pair = padded + width + 2 * kNssRadius;  // of pixels, then of squares
    for (int side = 0; side < (step ? 2 : 1); ++side) {
      const int64_t at = y + (side ? step : -step);
      const double* row = grey + (at < 0 ? 0 : at < height ? at : height - 1) * width;
      for (int64_t x = 0; x < width; ++x) padded[x] = row[x];
      for (int k = 1; k <= kNssRadius; ++k) padded[-k] = row[0], padded[width - 1 + k] = row[width - 1];
#pragma omp simd
      for (int64_t x = 0; x < width; ++x) {
        double sum = 0, squares = 0;
        for (int k = 0; k < kNssTaps; ++k) {
          const double value = padded[x + k - kNssRadius];
          sum = rounded(value * tap[k] + sum);
          squares = rounded(rounded(value * value) * tap[k] + squares);
        }
        pair[x] = side ? rounded(pair[x] + sum) : sum;
        pair[width + x] = side ? rounded(pair[width + x] + squares) : squares;
      }
    }
    const double weight = tap[kNssRadius + step];
#pragma omp simd
    for (int64_t x = 0; x < width; ++x) {
      mean[x] = rounded(pair[x] * weight + (step ? mean[x] : 0.0));
      square[x] = rounded(pair[width + x] * weight + (step ? square[x] : 0.0));
    }
  }
  // By way of memory: else the compiler may fuse this product with the difference below, and round once.
  for (int64_t x = 0; x < width; ++x) padded[x] = rounded(mean[x] * mean[x]);
  const double* here = grey + y * width;
  for (int64_t x = 0; x < width; ++x) {
    const double variance = rounded(square[x] - padded[x]);
    const double deviation = rounded(std::sqrt(variance));  // NaN where rounding made it negative: neither side
    const double value = rounded(rounded(here[x] - mean[x]) / rounded(deviation + constant));
    to[x] = static_cast<float>(variance < 0 ? 0.0 : value);
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

// Adds the tails of one strip of a block. `strip`: [rows + 1, width + 2], the row above first, the neighbouring column
// on either side. Without a row above, the first row has no neighbour there.
inline void add_tails(const float* strip, int64_t rows, int64_t width, bool above, Tails* tails) {
  const int64_t pitch = width + 2;
  for (int64_t y = 1; y <= rows; ++y) {
    const float* row = strip + y * pitch + 1;
    add_products(row, nullptr, width, tails[0]);
    for (int fit = 1; fit < kFits; ++fit)
      if (y > 1 || above || !row_shift(fit))
        add_products(row, row - row_shift(fit) * pitch - column_shift(fit), width, tails[fit]);
  }
}

// images: [images, 3, plane_height, plane_width]; features: [images, rows of blocks * columns of blocks, 36].
template <typename T>
void nss_features(const T* images, double* features, const NssSize& size, const NssForm& form, const Shapes& shapes,
                  int threads) {
  const int64_t rows = size.rows(), columns = size.columns(), plane = size.plane_height * size.plane_width;
  const int64_t height = size.height[0], width = size.width[0], pixels = height * width;
  const int64_t half_height = size.height[1], half_width = size.width[1], half_pixels = half_height * half_width;
  // A strip is a row of blocks; of a whole image, 64 rows: however many threads there are, the same sums.
  const int64_t strip[2] = {form.whole ? kStripRows : size.block_height[0],
                            form.whole ? kStripRows : size.block_height[1]};
  const int64_t strips[2] = {(height + strip[0] - 1) / strip[0], (half_height + strip[1] - 1) / strip[1]};
  const int64_t tasks = strips[0] + strips[1];  // of an image
  const Gaussian<double, kNssTaps> window(kNssSigma);
  const auto normalise = form.single ? normalise_row_single : normalise_row;
  Scratch<double> grey(size.images * pixels), half(size.images * half_pixels);
  Scratch<Tails> tails(size.images * tasks * columns * kFits);

#pragma omp parallel num_threads(useful_threads(threads, size.images * pixels * 8))
  {
    Scratch<double> line(5 * (width + 2 * kNssRadius));
    Scratch<float> normal((strip[0] + 1) * width), block((strip[0] + 1) * (size.block_width[0] + 2));
#pragma omp for schedule(static)
    for (int64_t task = 0; task < size.images * strips[0]; ++task) {
      const int64_t image = task / strips[0], top = task % strips[0] * strip[0];
      const int64_t end = top + strip[0] < height ? top + strip[0] : height;
      grey_rows(images + image * 3 * plane, form, plane, size.plane_width, top, end, width,
                grey.data() + image * pixels);
    }
#pragma omp for schedule(static)
    for (int64_t task = 0; task < size.images * half_height; ++task) {
      const int64_t image = task / half_height, y = task % half_height;
      resize_row(grey.data() + image * pixels, width, size.down, size.across, y, 0, width, half_width, line.data(),
                 half.data() + image * half_pixels + y * half_width, [](double level) { return level; });
      if (form.single)
        for (int64_t x = 0; x < half_width; ++x) {
          double& pixel = half.data()[image * half_pixels + y * half_width + x];
          pixel = rounded(pixel);
        }
    }
#pragma omp for schedule(dynamic)
    for (int64_t task = 0; task < size.images * tasks; ++task) {
      const int64_t image = task / tasks, scale = task % tasks >= strips[0], at = task % tasks - scale * strips[0];
      const int64_t across = size.width[scale], down = size.height[scale], top = at * strip[scale];
      const int64_t count = top + strip[scale] < down ? strip[scale] : down - top;
      const double* from = scale ? half.data() + image * half_pixels : grey.data() + image * pixels;
      for (int64_t y = 0; y < count; ++y)
        normalise(window, form, from, down, across, top + y, line.data(), normal.data() + (y + 1) * across);
      // The row above: of the strip before, or beyond the border the block's last row.
      const bool first = !form.whole || at == 0, above = !first || form.cyclic;
      if (above && form.whole)
        normalise(window, form, from, down, across, first ? down - 1 : top - 1, line.data(), normal.data());
      else if (above)
        std::memcpy(normal.data(), normal.data() + count * across, across * sizeof(float));
      const int64_t side = size.block_width[scale];
      for (int64_t column = 0; column < columns; ++column) {
        for (int64_t y = above ? 0 : 1; y <= count; ++y) {
          const float* pixel = normal.data() + y * across + column * side;
          float* to = block.data() + y * (side + 2);
          std::memcpy(to + 1, pixel, side * sizeof(float));
          to[0] = form.cyclic ? pixel[side - 1] : 0.0f, to[side + 1] = form.cyclic ? pixel[0] : 0.0f;
        }
        Tails* of = tails.data() + (task * columns + column) * kFits;
        for (int fit = 0; fit < kFits; ++fit) of[fit] = {};
        add_tails(block.data(), count, side, above, of);
      }
    }
#pragma omp for schedule(static)
    for (int64_t task = 0; task < size.images * rows * columns * 2; ++task) {
      const int64_t scale = task % 2, block_of = task / 2 % (rows * columns), image = task / 2 / (rows * columns);
      const int64_t row = block_of / columns, column = block_of % columns;
      double* to = features + (task / 2 * 2 + scale) * kFeatures;
      for (int fit = 0; fit < kFits; ++fit) {
        Tails sum = {};
        for (int64_t at = form.whole ? 0 : row; at < (form.whole ? strips[scale] : row + 1); ++at)
          sum.add(tails.data()[((image * tasks + scale * strips[0] + at) * columns + column) * kFits + fit]);
        describe(fit, sum, size.block_height[scale] * size.block_width[scale], form, shapes, to);
      }
    }
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
