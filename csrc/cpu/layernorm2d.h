// CPU kernels of layernorm2d: a block of neighbouring pixels at a time, all its channels in the first-level cache.
#pragma once

#include <cmath>

#include "scratch.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Pixels worked on together: 64 channels of them are 32 KB of float32.
constexpr int64_t kBlock = 128;
// Pixels per task, each with its own partial sums for v_weight and v_bias.
constexpr int64_t kTask = 1024;

// The cut of [images, channels, pixels] into tasks that lie within one image.
struct PixelTasks {
  int64_t images, pixels, per_image;

  PixelTasks(int64_t images, int64_t pixels)
      : images(images), pixels(pixels), per_image((pixels + kTask - 1) / kTask) {}
  int64_t count() const { return images * per_image; }
  int64_t image(int64_t task) const { return task / per_image; }
  int64_t begin(int64_t task) const { return task % per_image * kTask; }
  int64_t end(int64_t task) const { return begin(task) + kTask < pixels ? begin(task) + kTask : pixels; }
};

// Copy a block and normalise it: normal[channel * kBlock + i], and 1 / sqrt(var + eps) per pixel in `inverse`.
template <typename T>
void normalise(const T* x, int64_t channels, int64_t pixels, int64_t count, T eps, T* normal, T* inverse) {
  T mean[kBlock], square[kBlock];
  for (int64_t i = 0; i < count; ++i) mean[i] = square[i] = 0;
  for (int64_t c = 0; c < channels; ++c) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      normal[c * kBlock + i] = x[c * pixels + i];
      mean[i] += x[c * pixels + i];
    }
  }
  const T share = T(1) / channels;
  for (int64_t i = 0; i < count; ++i) mean[i] *= share;
  for (int64_t c = 0; c < channels; ++c) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const T centred = normal[c * kBlock + i] - mean[i];
      normal[c * kBlock + i] = centred;
      square[i] += centred * centred;
    }
  }
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) inverse[i] = 1 / std::sqrt(square[i] * share + eps);
  for (int64_t c = 0; c < channels; ++c) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) normal[c * kBlock + i] *= inverse[i];
  }
}

// Normalise every block, and call use(task, start, count, normal, inverse) with it: `count` pixels whose first channel
// begins at x[start]. Each thread has one block's memory; which thread does a block changes no bit of it.
template <typename T, typename Use>
void each_block(const T* x, int64_t channels, const PixelTasks& tasks, double eps, int threads, Use use) {
#pragma omp parallel num_threads(useful_threads(threads, tasks.images* tasks.pixels))
  {
    Scratch<T> normal_memory(channels * kBlock);
    T* normal = normal_memory.data();
    T inverse[kBlock];
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks.count(); ++task) {
      for (int64_t begin = tasks.begin(task); begin < tasks.end(task); begin += kBlock) {
        const int64_t start = tasks.image(task) * channels * tasks.pixels + begin;
        const int64_t count = tasks.end(task) - begin < kBlock ? tasks.end(task) - begin : kBlock;
        normalise(x + start, channels, tasks.pixels, count, static_cast<T>(eps), normal, inverse);
        use(task, start, count, normal, inverse);
      }
    }
  }
}

template <typename T>
void layernorm2d_forward(const T* x, const T* weight, const T* bias, T* out, int64_t images, int64_t channels,
                         int64_t pixels, double eps, int threads) {
  auto scale = [=](int64_t, int64_t start, int64_t count, const T* normal, const T*) {
    for (int64_t c = 0; c < channels; ++c) {
      T* to = out + start + c * pixels;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) to[i] = normal[c * kBlock + i] * weight[c] + bias[c];
    }
  };
  each_block(x, channels, PixelTasks(images, pixels), eps, threads, scale);
}

// One block: writes v_x and adds to v_weight and v_bias, the task's partial sums. With g = v_out * weight,
// v_x = (g - mean_c(g) - normal * mean_c(g * normal)) * inverse.
template <typename T>
void backward_block(const T* v_out, const T* weight, const T* normal, const T* inverse, T* v_x, T* v_weight, T* v_bias,
                    int64_t channels, int64_t pixels, int64_t count) {
  T mean[kBlock], along[kBlock];
  for (int64_t i = 0; i < count; ++i) mean[i] = along[i] = 0;
  for (int64_t c = 0; c < channels; ++c) {
    const T* v = v_out + c * pixels;
    const T* n = normal + c * kBlock;
    T sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t i = 0; i < count; ++i) {
      sum += v[i];
      product += v[i] * n[i];
      mean[i] += v[i] * weight[c];
      along[i] += v[i] * weight[c] * n[i];
    }
    v_bias[c] += sum;
    v_weight[c] += product;
  }
  const T share = T(1) / channels;
  for (int64_t i = 0; i < count; ++i) {
    mean[i] *= share;
    along[i] *= share;
  }
  for (int64_t c = 0; c < channels; ++c) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i)
      v_x[c * pixels + i] =
          (v_out[c * pixels + i] * weight[c] - mean[i] - normal[c * kBlock + i] * along[i]) * inverse[i];
  }
}

// The statistics are made again rather than saved: the pass over x is needed anyway.
template <typename T>
void layernorm2d_backward(const T* v_out, const T* x, const T* weight, T* v_x, T* v_weight, T* v_bias, int64_t images,
                          int64_t channels, int64_t pixels, double eps, int threads) {
  const PixelTasks tasks(images, pixels);
  Scratch<T> partial_memory(tasks.count() * 2 * channels);
  T* partial = partial_memory.data();
  for (int64_t i = 0; i < tasks.count() * 2 * channels; ++i) partial[i] = 0;

  auto add = [=](int64_t task, int64_t start, int64_t count, const T* normal, const T* inverse) {
    T* sums = partial + task * 2 * channels;
    backward_block(v_out + start, weight, normal, inverse, v_x + start, sums, sums + channels, channels, pixels, count);
  };
  each_block(x, channels, tasks, eps, threads, add);

  for (int64_t c = 0; c < channels; ++c) {
    double weight_sum = 0, bias_sum = 0;
    for (int64_t task = 0; task < tasks.count(); ++task) {
      weight_sum += partial[task * 2 * channels + c];
      bias_sum += partial[task * 2 * channels + channels + c];
    }
    v_weight[c] = static_cast<T>(weight_sum);
    v_bias[c] = static_cast<T>(bias_sum);
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
