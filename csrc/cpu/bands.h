// How convolutions cut images: into bands of rows, copied with their border of zeros into the cache.
#pragma once

#include "table.h"
#include "vector.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Rows a thread works on together.
constexpr int64_t kConvRows = 8;
// Parts of the images whose weight gradients are summed apart; the threads have no say, so that they change no bit.
constexpr int64_t kMostChunks = 16, kChunkPixels = 1024;

inline int64_t round_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }

template <typename T>
constexpr int64_t lanes_of() {
  return kVectorBytes / sizeof(T);
}

// The bands of all images, and the rows of one with their border: [channels, rows + taps - 1, pitch], the first pixel
// of a row `margin` after the row's start, so that it lies at a multiple of a vector.
template <typename T>
struct Bands {
  int64_t images, height, width, radius, per_image, margin, pitch;

  Bands(const ConvSize& size)
      : images(size.images),
        height(size.height),
        width(size.width),
        radius(size.taps / 2),
        per_image((size.height + kConvRows - 1) / kConvRows),
        margin(round_up(radius, lanes_of<T>())),
        pitch(round_up(size.width, lanes_of<T>()) + 2 * margin) {}

  int64_t count() const { return images * per_image; }
  int64_t image(int64_t band) const { return band / per_image; }
  int64_t top(int64_t band) const { return band % per_image * kConvRows; }
  int64_t rows(int64_t band) const { return height - top(band) < kConvRows ? height - top(band) : kConvRows; }
  // For useful_threads: its pixels stand for about 256 products each.
  int64_t work(int64_t products) const { return images * height * width * (products / 256 + 1); }
  int64_t chunks() const {
    const int64_t pixels = images * height * width / kChunkPixels + 1;
    const int64_t most = pixels < kMostChunks ? pixels : kMostChunks;
    return count() < most ? count() : most;
  }
  int64_t plane() const { return (kConvRows + 2 * radius) * pitch; }
  // The offset in a plane of the first pixel of row r, and of the top left tap that reads for it.
  int64_t pixel(int64_t r) const { return (r + radius) * pitch + margin; }
  int64_t first_tap(int64_t r) const { return r * pitch + margin - radius; }

  // Fill a band of `channels` planes and border; fill_row(channel, y, to) writes the pixels of one row.
  template <typename FillRow>
  void fill(int64_t band, int64_t channels, T* to, const FillRow& fill_row) const {
    const int64_t first = top(band) - radius, last = top(band) + rows(band) + radius;
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t y = first; y < last; ++y) {
        T* row = to + c * plane() + (y - first) * pitch;
        if (y < 0 || y >= height) {
          for (int64_t i = 0; i < pitch; ++i) row[i] = 0;
          continue;
        }
        for (int64_t i = 0; i < margin; ++i) row[i] = 0;
        fill_row(c, y, row + margin);
        for (int64_t i = margin + width; i < pitch; ++i) row[i] = 0;
      }
    }
  }
};

}  // namespace RGSUD_ISA
}  // namespace rgsud
