// CPU kernel of nafblock, backward: two passes over the image with the attention's sums between them.
#pragma once

#include "nafblock_tail_backward.h"

namespace rgsud {
inline namespace RGSUD_ISA {

template <typename T>
void add_row(const T* __restrict from, T* __restrict to, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

// The gradient at one half of the gate's input: (v_u + v_mean) times the other half.
template <typename T>
void gate_gradient(const T* __restrict v_u, T v_mean, const T* __restrict other, T* __restrict to, int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) to[i] = (v_u[i] + v_mean) * other[i];
}

// Adds to the nine weights' sums and the bias's of one depthwise channel, a vector each. v: the gradient at its output.
template <typename T>
void depthwise_gradient(const T* v, const T* t, const Bands<T>& bands, int64_t rows, T* weight_sums, T* bias_sum) {
  using V = typename VectorOf<T>::Type;
  constexpr int64_t lanes = lanes_of<T>();
  V sum[9] = {}, total = {};
  for (int64_t r = 0; r < rows; ++r) {
    const T *v_row = v + bands.pixel(r), *t_row = t + bands.first_tap(r);
    for (int64_t p = 0; p < bands.width; p += lanes) {
      const V one = keep(load<V>(v_row + p));
      for (int k = 0; k < 9; ++k) sum[k] += one * load<V>(t_row + k / 3 * bands.pitch + k % 3 + p);
      total += one;
    }
  }
  for (int k = 0; k < 9; ++k) store(weight_sums + k * lanes, load<V>(weight_sums + k * lanes) + sum[k]);
  store(bias_sum, load<V>(bias_sum) + total);
}

// The backward's memory and its three passes, in the order in which they run. Makes everything again but a and mean,
// which the forward gave.
template <typename T>
struct NafBackward {
  static constexpr int64_t lanes = lanes_of<T>();
  const T *v_out, *x;
  const NafWeights<T>& w;
  const T *a, *mean;
  T* v_x;
  const NafSize size;
  const T eps;
  const int64_t channels, pixels;
  const NafLayout layout;
  const int64_t all;
  const PixelTasks tasks;
  const Bands<T> bands;
  const int team;
  const int64_t chunks;
  Scratch<T> scale, v_u, partial, v_scale, v_mean;

  NafBackward(const T* v_out, const T* x, const NafWeights<T>& w, const T* a, const T* mean, T* v_x, NafSize size,
              double eps, int threads)
      : v_out(v_out),
        x(x),
        w(w),
        a(a),
        mean(mean),
        v_x(v_x),
        size(size),
        eps(static_cast<T>(eps)),
        channels(size.channels),
        pixels(size.height * size.width),
        layout(channels),
        all(layout.at[kNafWeights]),
        tasks(size.images, pixels),
        bands({size.images, channels, 2 * channels, size.height, size.width, 3}),
        team(useful_threads(threads, bands.work(6 * channels * channels))),
        chunks(bands.chunks()),
        scale(size.images * channels),
        v_u(size.images * channels * pixels),
        partial(chunks * all),
        v_scale(tasks.count() * channels),
        v_mean(size.images * channels) {
    for (int64_t i = 0; i < chunks * all; ++i) partial.data()[i] = 0;
    naf_attention(w, mean, scale.data(), size.images, channels);
  }

  // From the output to u: everything is pointwise but the sum that reaches the attention.
  void from_output_to_u() {
    NafTailMatrices<T> shared(w, layout, channels);
#pragma omp parallel num_threads(team)
    {
      NafTailBack<T> back(shared, w, layout, channels, eps);
#pragma omp for schedule(static)
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        T* flat = partial.data() + chunk * all;
        back.begin_chunk(flat);
        for (int64_t task = chunk * tasks.count() / chunks; task < (chunk + 1) * tasks.count() / chunks; ++task) {
          back.begin_task();
          for (int64_t begin = tasks.begin(task); begin < tasks.end(task); begin += kBlock) {
            const int64_t left = tasks.end(task) - begin;
            tail_block(back, tasks.image(task), begin, left < kBlock ? left : kBlock);
          }
          back.end_task(v_scale.data() + task * channels);
        }
        shared.lane.write(back.sums.data(), flat);
      }
    }
  }

  // The same for `count` pixels of an image.
  void tail_block(NafTailBack<T>& back, int64_t image, int64_t begin, int64_t count) {
    const int64_t here = image * channels * pixels + begin;
    const T* factors = scale.data() + image * channels;
    back.forward(x + here, a + 2 * image * channels * pixels + begin, factors, pixels, count);
    back.through_project2(v_out + here, pixels, count);
    back.through_expand2(count);
    for (int64_t c = 0; c < channels; ++c)
      std::memcpy(v_x + here + c * pixels, back.v_y.data() + c * kBlock, count * sizeof(T));
    back.through_project1(count);
    for (int64_t c = 0; c < channels; ++c) {
      const T* from = back.v_scaled.data() + c * kBlock;
      T* to = v_u.data() + here + c * pixels;
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) to[i] = from[i] * factors[c];
    }
  }

  // The attention: v_weight = v_scale mean^T, v_mean = weight^T v_scale; each pixel of u had a share in the mean.
  void through_attention() {
    for (int64_t n = 0; n < size.images; ++n) {
      for (int64_t i = 0; i < channels; ++i) v_mean.data()[n * channels + i] = 0;
      for (int64_t o = 0; o < channels; ++o) {
        double sum = 0;
        for (int64_t k = 0; k < tasks.per_image; ++k) sum += v_scale.data()[(n * tasks.per_image + k) * channels + o];
        const T v = static_cast<T>(sum);
        partial.data()[layout.at[7] + o] += v;
        for (int64_t i = 0; i < channels; ++i) {
          partial.data()[layout.at[6] + o * channels + i] += v * mean[n * channels + i];
          v_mean.data()[n * channels + i] += v * w.attention[o * channels + i] / pixels;
        }
      }
    }
  }

  // From u to x: through the gate, the depthwise convolution, expand1 and norm1.
  void from_u_to_x() {
    Mixer<T> expand1(w.expand1, w.expand1_bias, 2 * channels, channels, false);
    Mixer<T> expand1_back(w.expand1, nullptr, 2 * channels, channels, true);
    LaneSums<T> lane;
    const int64_t expand1_at = lane.add_matrix(layout.at[2], 2 * channels, channels),
                  expand1_bias_at = lane.add_vector(layout.at[3], 2 * channels);
    const int64_t depthwise_at = lane.add_vector(layout.at[4], 18 * channels),
                  depthwise_bias_at = lane.add_vector(layout.at[5], 2 * channels);
    Scratch<T> turned(18 * channels);
    for (int64_t i = 0; i < 18 * channels; ++i) turned.data()[i] = w.depthwise[i / 9 * 9 + 8 - i % 9];

#pragma omp parallel num_threads(team)
    {
      NafHead<T> head(expand1, w, channels, eps);
      Scratch<T> t_band(2 * channels * bands.plane()), v_band(2 * channels * bands.plane()), sums(lane.size);
      Rows<T> v_t(2 * channels), v_normed(channels), v_before(channels);
#pragma omp for schedule(static)
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        T* flat = partial.data() + chunk * all;
        for (int64_t i = 0; i < lane.size; ++i) sums.data()[i] = 0;
        for (int64_t task = chunk * bands.count() / chunks; task < (chunk + 1) * bands.count() / chunks; ++task) {
          const int64_t image = bands.image(task), rows = bands.rows(task);
          head.fill(bands, task, x, t_band.data());
          bands.fill(task, 2 * channels, v_band.data(), [&](int64_t c, int64_t y, T* to) {
            const int64_t other = c < channels ? c + channels : c - channels, of = c % channels;
            gate_gradient(v_u.data() + (image * channels + of) * pixels + y * size.width,
                          v_mean.data()[image * channels + of],
                          a + (2 * image * channels + other) * pixels + y * size.width, to, size.width);
          });
          for (int64_t c = 0; c < 2 * channels; ++c)
            depthwise_gradient(v_band.data() + c * bands.plane(), t_band.data() + c * bands.plane(), bands, rows,
                               sums.data() + depthwise_at + c * 9 * lanes, sums.data() + depthwise_bias_at + c * lanes);
          each_stretch(0, rows, size.width, [&](int64_t y, int64_t begin, int64_t together, int64_t width) {
            const int64_t count = together * width;
            const int64_t here = image * channels * pixels + (bands.top(task) + y) * size.width + begin;
            for (int64_t c = 0; c < 2 * channels; ++c) {
              for (int64_t r = 0; r < together; ++r)
                depthwise_row(v_band.data() + c * bands.plane() + bands.first_tap(y + r) + begin, bands.pitch,
                              turned.data() + c * 9, T(0), v_t.data() + c * kBlock + r * width, width);
              for (int64_t i = count; i < round_up(count, lanes); ++i) v_t.data()[c * kBlock + i] = 0;
            }
            head.norm(x + here, pixels, count);
            add_outer(v_t.data(), 2 * channels, head.normed.data(), channels, count, sums.data() + expand1_at);
            add_rows<T>(v_t.data(), nullptr, 2 * channels, count, sums.data() + expand1_bias_at);
            expand1_back.run(v_t.data(), v_normed.data(), count);
            backward_block(v_normed.data(), w.norm1_weight, head.normal.data(), head.inverse, v_before.data(),
                           flat + layout.at[0], flat + layout.at[1], channels, kBlock, count);
            for (int64_t c = 0; c < channels; ++c)
              add_row(v_before.data() + c * kBlock, v_x + here + c * pixels, count);
          });
        }
        lane.write(sums.data(), flat);
      }
    }
  }

  // Adds up the chunks, in their order.
  void sum(T* v_weights) const {
    for (int64_t i = 0; i < all; ++i) {
      double sum = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial.data()[chunk * all + i];
      v_weights[i] = static_cast<T>(sum);
    }
  }
};

// v_weights is flat, in the order of NafWeights.
template <typename T>
void nafblock_backward(const T* v_out, const T* x, const NafWeights<T>& w, const T* a, const T* mean, T* v_x,
                       T* v_weights, NafSize size, double eps, int threads) {
  NafBackward<T> pass(v_out, x, w, a, mean, v_x, size, eps, threads);
  pass.from_output_to_u();
  pass.through_attention();
  pass.from_u_to_x();
  pass.sum(v_weights);
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
