// CPU kernel of nafblock, forward: two passes over the image, everything between in the cache.
#pragma once

#include "nafblock_parts.h"

namespace rgsud {
inline namespace RGSUD_ISA {

template <typename T>
void nafblock_forward(const T* x, const NafWeights<T>& w, T* out, T* a, T* mean, NafSize size, double eps,
                      int threads) {
  const int64_t channels = size.channels, pixels = size.height * size.width;
  const Bands<T> bands({size.images, channels, 2 * channels, size.height, size.width, 3});
  const int team = useful_threads(threads, bands.work(6 * channels * channels));
  Mixer<T> expand1(w.expand1, w.expand1_bias, 2 * channels, channels, false);
  Scratch<T> sums(bands.count() * channels), scale(size.images * channels);

#pragma omp parallel num_threads(team)
  {
    NafHead<T> head(expand1, w, channels, static_cast<T>(eps));
    Scratch<T> band(2 * channels * bands.plane());
#pragma omp for schedule(static)
    for (int64_t task = 0; task < bands.count(); ++task) {
      head.fill(bands, task, x, band.data());
      for (int64_t c = 0; c < channels; ++c) {
        T sum = 0;
        for (int64_t r = 0; r < bands.rows(task); ++r) {
          T* half[2];
          for (int h = 0; h < 2; ++h) {
            const int64_t channel = c + h * channels;
            half[h] = a + (bands.image(task) * 2 * channels + channel) * pixels + (bands.top(task) + r) * size.width;
            depthwise_row(band.data() + channel * bands.plane() + bands.first_tap(r), bands.pitch,
                          w.depthwise + channel * 9, w.depthwise_bias[channel], half[h], size.width);
          }
#pragma omp simd reduction(+ : sum)
          for (int64_t i = 0; i < size.width; ++i) sum += half[0][i] * half[1][i];
        }
        sums.data()[task * channels + c] = sum;
      }
    }
  }
  for (int64_t n = 0; n < size.images; ++n) {
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (int64_t k = 0; k < bands.per_image; ++k) sum += sums.data()[(n * bands.per_image + k) * channels + c];
      mean[n * channels + c] = static_cast<T>(sum / pixels);
    }
  }
  naf_attention(w, mean, scale.data(), size.images, channels);

  Mixer<T> project1(w.project1, w.project1_bias, channels, channels, false);
  Mixer<T> expand2(w.expand2, w.expand2_bias, 2 * channels, channels, false);
  Mixer<T> project2(w.project2, w.project2_bias, channels, channels, false);
  const PixelTasks tasks(size.images, pixels);
#pragma omp parallel num_threads(team)
  {
    NafTail<T> tail(project1, expand2, project2, w, channels, static_cast<T>(eps));
    Rows<T> halves(2 * channels), u(channels), final(channels);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks.count(); ++task) {
      const int64_t image = tasks.image(task);
      for (int64_t begin = tasks.begin(task); begin < tasks.end(task); begin += kBlock) {
        const int64_t count = tasks.end(task) - begin < kBlock ? tasks.end(task) - begin : kBlock;
        load_block(a + image * 2 * channels * pixels + begin, 2 * channels, pixels, count, halves.data());
        multiply_rows(halves.data(), halves.data() + channels * kBlock, u.data(), channels, count);
        tail.run(x + image * channels * pixels + begin, u.data(), scale.data() + image * channels, pixels, count);
        scale_rows(tail.y.data(), w.gamma, tail.out.data(), final.data(), channels, count);
        for (int64_t c = 0; c < channels; ++c)
          std::memcpy(out + (image * channels + c) * pixels + begin, final.data() + c * kBlock, count * sizeof(T));
      }
    }
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
