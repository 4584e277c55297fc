// CPU kernel of nafblock: two passes over the image forward and two backward, everything between in the cache.
#pragma once

#include "conv_bias_lrelu.h"
#include "layernorm2d.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Where each parameter begins in the flat gradient; the order is that of NafWeights.
struct NafLayout {
  int64_t at[kNafWeights + 1];

  explicit NafLayout(int64_t c) {
    const int64_t sizes[kNafWeights] = {c, c, 2 * c * c, 2 * c,     18 * c, 2 * c, c * c, c, c * c,
                                        c, c, c,         2 * c * c, 2 * c,  c * c, c,     c, c};
    at[0] = 0;
    for (int i = 0; i < kNafWeights; ++i) at[i + 1] = at[i] + sizes[i];
  }
};

// A matrix that maps channels to channels, as conv_tile reads it, and its bias with zeros up to whole groups.
template <typename T>
struct Mixer {
  int64_t from, to;
  Scratch<T> packed, start;

  Mixer(const T* weight, const T* bias, int64_t out, int64_t in, bool transposed)
      : from(transposed ? out : in),
        to(transposed ? in : out),
        packed(round_up(to, kGroup) * from),
        start(round_up(to, kGroup)) {
    pack_weights(weight, {1, in, out, 1, 1, 1}, transposed, packed.data());
    for (int64_t c = 0; c < round_up(to, kGroup); ++c) start.data()[c] = bias && !transposed && c < to ? bias[c] : T(0);
  }

  // out[to][kBlock] = weight * x[from][kBlock] + bias for `count` pixels, rounded up to whole vectors.
  void run(const T* x, T* out, int64_t count) {
    for (int64_t c = 0; c < to; c += kGroup)
      conv_row(x, kBlock, int64_t(0), from, int64_t(1), packed.data() + c * from, start.data() + c, out + c * kBlock,
               kBlock, round_up(count, lanes_of<T>()));
  }
};

// sums[o][i] += sum over pixels of v[o] * x[i], a vector each; both round_up(channels, 4) rows of kBlock.
template <typename T>
void add_outer(const T* v, int64_t out, const T* x, int64_t in, int64_t count, T* sums) {
  using V = typename VectorOf<T>::Type;
  constexpr int64_t lanes = lanes_of<T>();
  constexpr int few = kMostVectors > 2 ? 4 : 2;
  const int64_t pitch = round_up(in, kGroup);
  for (int64_t o = 0; o < out; o += few) {
    for (int64_t i = 0; i < in; i += 4) {
      V sum[few][4] = {};
      for (int64_t p = 0; p < count; p += lanes) {
        V seen[4];
        for (int k = 0; k < 4; ++k) seen[k] = keep(load<V>(x + (i + k) * kBlock + p));
        for (int g = 0; g < few; ++g) {
          const V one = keep(load<V>(v + (o + g) * kBlock + p));
          for (int k = 0; k < 4; ++k) sum[g][k] += one * seen[k];
        }
      }
      for (int g = 0; g < few; ++g) {
        for (int k = 0; k < 4; ++k) {
          T* to = sums + ((o + g) * pitch + i + k) * lanes;
          store(to, load<V>(to) + sum[g][k]);
        }
      }
    }
  }
}

// sums[c] += sum over pixels of v[c] (times x[c]), a vector each.
template <typename T>
void add_rows(const T* v, const T* x, int64_t channels, int64_t count, T* sums) {
  using V = typename VectorOf<T>::Type;
  constexpr int64_t lanes = lanes_of<T>();
  for (int64_t c = 0; c < channels; ++c) {
    V sum = load<V>(sums + c * lanes);
    for (int64_t p = 0; p < count; p += lanes) {
      const V one = load<V>(v + c * kBlock + p);
      sum += x ? one * load<V>(x + c * kBlock + p) : one;
    }
    store(sums + c * lanes, sum);
  }
}

// Copy `count` pixels of each channel into rows of kBlock, with zeros up to a whole vector.
template <typename T>
void load_block(const T* from, int64_t channels, int64_t pixels, int64_t count, T* to) {
  const int64_t end = round_up(count, lanes_of<T>());
  for (int64_t c = 0; c < channels; ++c) {
    std::memcpy(to + c * kBlock, from + c * pixels, count * sizeof(T));
    for (int64_t i = count; i < end; ++i) to[c * kBlock + i] = 0;
  }
}

// out[c] = a[c] * b[c] for whole vectors.
template <typename T>
void multiply_rows(const T* __restrict a, const T* __restrict b, T* __restrict out, int64_t channels, int64_t count) {
  const int64_t end = round_up(count, lanes_of<T>());
  for (int64_t c = 0; c < channels; ++c) {
#pragma omp simd
    for (int64_t i = 0; i < end; ++i) out[c * kBlock + i] = a[c * kBlock + i] * b[c * kBlock + i];
  }
}

// out[c] = base[c] + scale[c] * x[c]; without base, 0 + that.
template <typename T>
void scale_rows(const T* base, const T* scale, const T* x, T* out, int64_t channels, int64_t count) {
  const int64_t end = round_up(count, lanes_of<T>());
  for (int64_t c = 0; c < channels; ++c) {
    const T factor = scale[c];
    if (base) {
#pragma omp simd
      for (int64_t i = 0; i < end; ++i) out[c * kBlock + i] = base[c * kBlock + i] + factor * x[c * kBlock + i];
    } else {
#pragma omp simd
      for (int64_t i = 0; i < end; ++i) out[c * kBlock + i] = factor * x[c * kBlock + i];
    }
  }
}

template <typename T>
void affine_rows(const T* normal, const T* weight, const T* bias, T* out, int64_t channels, int64_t count) {
  for (int64_t c = 0; c < channels; ++c) {
    const T factor = weight[c], shift = bias[c];
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) out[c * kBlock + i] = normal[c * kBlock + i] * factor + shift;
  }
}

// Memory of rows of kBlock, all 0 at first.
template <typename T>
struct Rows : Scratch<T> {
  explicit Rows(int64_t channels) : Scratch<T>(round_up(channels, kGroup) * kBlock) {
    for (int64_t i = 0; i < round_up(channels, kGroup) * kBlock; ++i) this->data()[i] = 0;
  }
};

// The second half of the block for a stretch of pixels, from x, the gated u and the attention's scale s.
template <typename T>
struct NafTail {
  Mixer<T>&project1, &expand2, &project2;
  const NafWeights<T>& w;
  int64_t channels;
  T eps;
  Rows<T> x, scaled, projected, y, normal, normed, expanded, gated, out;
  T inverse[kBlock];

  NafTail(Mixer<T>& project1, Mixer<T>& expand2, Mixer<T>& project2, const NafWeights<T>& w, int64_t c, T eps)
      : project1(project1),
        expand2(expand2),
        project2(project2),
        w(w),
        channels(c),
        eps(eps),
        x(c),
        scaled(c),
        projected(c),
        y(c),
        normal(c),
        normed(c),
        expanded(2 * c),
        gated(c),
        out(c) {}

  // `u` in rows of kBlock; x_from in rows of `pixels`. Fills every member; `out` is project2's output.
  void run(const T* x_from, const T* u, const T* scale, int64_t pixels, int64_t count) {
    load_block(x_from, channels, pixels, count, x.data());
    scale_rows<T>(nullptr, scale, u, scaled.data(), channels, count);
    project1.run(scaled.data(), projected.data(), count);
    scale_rows(x.data(), w.beta, projected.data(), y.data(), channels, count);
    normalise(y.data(), channels, kBlock, count, eps, normal.data(), inverse);
    affine_rows(normal.data(), w.norm2_weight, w.norm2_bias, normed.data(), channels, count);
    expand2.run(normed.data(), expanded.data(), count);
    multiply_rows(expanded.data(), expanded.data() + channels * kBlock, gated.data(), channels, count);
    project2.run(gated.data(), out.data(), count);
  }
};

// Calls run(y, begin, rows, count) for stretches of at most kBlock pixels that follow one another in memory: several
// whole rows from y on, or `count` pixels of one from `begin` on.
template <typename Run>
void each_stretch(int64_t top, int64_t bottom, int64_t width, const Run& run) {
  if (width > kBlock) {
    for (int64_t y = top; y < bottom; ++y)
      for (int64_t begin = 0; begin < width; begin += kBlock)
        run(y, begin, int64_t(1), width - begin < kBlock ? width - begin : kBlock);
    return;
  }
  const int64_t together = kBlock / width;
  for (int64_t y = top; y < bottom; y += together)
    run(y, int64_t(0), bottom - y < together ? bottom - y : together, width);
}

// A band of t = expand1(norm1(x)) with its border, 0 outside the image: [2 * channels, rows + 2, pitch].
template <typename T>
struct NafHead {
  Mixer<T>& expand1;
  const NafWeights<T>& w;
  int64_t channels;
  T eps;
  Rows<T> normal, normed, expanded;
  T inverse[kBlock];

  NafHead(Mixer<T>& expand1, const NafWeights<T>& w, int64_t c, T eps)
      : expand1(expand1), w(w), channels(c), eps(eps), normal(c), normed(c), expanded(2 * c) {}

  void norm(const T* x, int64_t pixels, int64_t count) {
    normalise(x, channels, pixels, count, eps, normal.data(), inverse);
    affine_rows(normal.data(), w.norm1_weight, w.norm1_bias, normed.data(), channels, count);
  }

  void fill(const Bands<T>& bands, int64_t band, const T* x, T* to) {
    const int64_t pixels = bands.height * bands.width, first = bands.top(band) - 1;
    const int64_t top = first < 0 ? 0 : first, below = bands.top(band) + bands.rows(band) + 1;
    const int64_t bottom = below > bands.height ? bands.height : below;
    for (int64_t c = 0; c < 2 * channels; ++c)
      for (int64_t i = 0; i < bands.plane(); ++i) to[c * bands.plane() + i] = 0;

    const T* from = x + bands.image(band) * channels * pixels;
    each_stretch(top, bottom, bands.width, [&](int64_t y, int64_t begin, int64_t rows, int64_t count) {
      norm(from + y * bands.width + begin, pixels, rows * count);
      expand1.run(normed.data(), expanded.data(), rows * count);
      for (int64_t c = 0; c < 2 * channels; ++c)
        for (int64_t r = 0; r < rows; ++r)
          std::memcpy(to + c * bands.plane() + (y + r - first) * bands.pitch + bands.margin + begin,
                      expanded.data() + c * kBlock + r * count, count * sizeof(T));
    });
  }
};

// One row of a 3 x 3 depthwise convolution. `from` points at the top left tap of the first pixel.
template <typename T>
void depthwise_row(const T* from, int64_t pitch, const T* weight, T bias, T* to, int64_t width) {
  T tap[9];
  for (int k = 0; k < 9; ++k) tap[k] = weight[k];
  each_vector<T>(0, width, [&](int64_t x, auto sum) {
    sum += bias;
    for (int k = 0; k < 9; ++k) sum += tap[k] * load<decltype(sum)>(from + k / 3 * pitch + k % 3 + x);
    store(to + x, sum);
  });
}

// The attention's scale from the mean of u, for every image: [images, channels] each.
template <typename T>
void naf_attention(const NafWeights<T>& w, const T* mean, T* scale, int64_t images, int64_t channels) {
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t o = 0; o < channels; ++o) {
      T sum = w.attention_bias[o];
      for (int64_t i = 0; i < channels; ++i) sum += w.attention[o * channels + i] * mean[n * channels + i];
      scale[n * channels + o] = sum;
    }
  }
}

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

// Sums over pixels that are kept as vectors until the end of a chunk; `at` are the places in the flat gradient.
template <typename T>
struct LaneSums {
  struct Part {
    int64_t from, at, out, in, pitch;
  };
  Part parts[8];
  int count = 0;
  int64_t size = 0;

  // Room for a matrix of [out, in] or a vector of [out]. Returns where its sums begin.
  int64_t add_matrix(int64_t at, int64_t out, int64_t in) { return add({size, at, out, in, round_up(in, kGroup)}); }
  int64_t add_vector(int64_t at, int64_t out) { return add({size, at, out, 1, 1}); }
  int64_t add(Part part) {
    parts[count++] = part;
    size += round_up(part.out, kGroup) * part.pitch * lanes_of<T>();
    return part.from;
  }

  void write(const T* sums, T* flat) const {
    for (int k = 0; k < count; ++k) {
      const Part& part = parts[k];
      for (int64_t o = 0; o < part.out; ++o)
        for (int64_t i = 0; i < part.in; ++i)
          flat[part.at + o * part.in + i] = lane_sum(sums + part.from + (o * part.pitch + i) * lanes_of<T>());
    }
  }
};

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

// v_weights is flat, in the order of NafWeights. Makes everything again but a and mean, which the forward gave.
template <typename T>
void nafblock_backward(const T* v_out, const T* x, const NafWeights<T>& w, const T* a, const T* mean, T* v_x,
                       T* v_weights, NafSize size, double eps, int threads) {
  constexpr int64_t lanes = lanes_of<T>();
  const int64_t channels = size.channels, pixels = size.height * size.width;
  const NafLayout layout(channels);
  const int64_t all = layout.at[kNafWeights];
  const PixelTasks tasks(size.images, pixels);
  const Bands<T> bands({size.images, channels, 2 * channels, size.height, size.width, 3});
  const int team = useful_threads(threads, bands.work(6 * channels * channels));
  const int64_t chunks = bands.chunks();
  Scratch<T> scale(size.images * channels), v_u(size.images * channels * pixels), partial(chunks * all);
  Scratch<T> v_scale(tasks.count() * channels), v_mean(size.images * channels);
  for (int64_t i = 0; i < chunks * all; ++i) partial.data()[i] = 0;
  naf_attention(w, mean, scale.data(), size.images, channels);

  // From the output to u: everything is pointwise but the sum that reaches the attention.
  {
    Mixer<T> project1(w.project1, w.project1_bias, channels, channels, false);
    Mixer<T> expand2(w.expand2, w.expand2_bias, 2 * channels, channels, false);
    Mixer<T> project2(w.project2, w.project2_bias, channels, channels, false);
    Mixer<T> project1_back(w.project1, nullptr, channels, channels, true);
    Mixer<T> expand2_back(w.expand2, nullptr, 2 * channels, channels, true);
    Mixer<T> project2_back(w.project2, nullptr, channels, channels, true);
    LaneSums<T> lane;
    const int64_t project1_at = lane.add_matrix(layout.at[8], channels, channels),
                  project1_bias_at = lane.add_vector(layout.at[9], channels);
    const int64_t expand2_at = lane.add_matrix(layout.at[12], 2 * channels, channels),
                  expand2_bias_at = lane.add_vector(layout.at[13], 2 * channels);
    const int64_t project2_at = lane.add_matrix(layout.at[14], channels, channels),
                  project2_bias_at = lane.add_vector(layout.at[15], channels);
    const int64_t beta_at = lane.add_vector(layout.at[16], channels),
                  gamma_at = lane.add_vector(layout.at[17], channels);

#pragma omp parallel num_threads(team)
    {
      NafTail<T> tail(project1, expand2, project2, w, channels, static_cast<T>(eps));
      Rows<T> halves(2 * channels), u(channels), g(channels), v_q(channels), v_gated(channels),
          v_expanded(2 * channels);
      Rows<T> v_normed(channels), v_y(channels), v_p(channels), v_scaled(channels);
      Scratch<T> sums(lane.size), scale_sums(channels * lanes);
#pragma omp for schedule(static)
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        T* flat = partial.data() + chunk * all;
        for (int64_t i = 0; i < lane.size; ++i) sums.data()[i] = 0;
        for (int64_t task = chunk * tasks.count() / chunks; task < (chunk + 1) * tasks.count() / chunks; ++task) {
          const int64_t image = tasks.image(task);
          for (int64_t i = 0; i < channels * lanes; ++i) scale_sums.data()[i] = 0;
          for (int64_t begin = tasks.begin(task); begin < tasks.end(task); begin += kBlock) {
            const int64_t count = tasks.end(task) - begin < kBlock ? tasks.end(task) - begin : kBlock;
            const int64_t here = image * channels * pixels + begin;
            load_block(a + 2 * image * channels * pixels + begin, 2 * channels, pixels, count, halves.data());
            multiply_rows(halves.data(), halves.data() + channels * kBlock, u.data(), channels, count);
            tail.run(x + here, u.data(), scale.data() + image * channels, pixels, count);
            load_block(v_out + here, channels, pixels, count, g.data());

            add_rows(g.data(), tail.out.data(), channels, count, sums.data() + gamma_at);
            scale_rows<T>(nullptr, w.gamma, g.data(), v_q.data(), channels, count);
            add_outer(v_q.data(), channels, tail.gated.data(), channels, count, sums.data() + project2_at);
            add_rows<T>(v_q.data(), nullptr, channels, count, sums.data() + project2_bias_at);
            project2_back.run(v_q.data(), v_gated.data(), count);
            multiply_rows(v_gated.data(), tail.expanded.data() + channels * kBlock, v_expanded.data(), channels, count);
            multiply_rows(v_gated.data(), tail.expanded.data(), v_expanded.data() + channels * kBlock, channels, count);
            add_outer(v_expanded.data(), 2 * channels, tail.normed.data(), channels, count, sums.data() + expand2_at);
            add_rows<T>(v_expanded.data(), nullptr, 2 * channels, count, sums.data() + expand2_bias_at);
            expand2_back.run(v_expanded.data(), v_normed.data(), count);
            backward_block(v_normed.data(), w.norm2_weight, tail.normal.data(), tail.inverse, v_y.data(),
                           flat + layout.at[10], flat + layout.at[11], channels, kBlock, count);
            for (int64_t c = 0; c < channels; ++c) {
#pragma omp simd
              for (int64_t i = 0; i < count; ++i) v_y.data()[c * kBlock + i] += g.data()[c * kBlock + i];
              for (int64_t i = count; i < round_up(count, lanes); ++i) v_y.data()[c * kBlock + i] = 0;
              std::memcpy(v_x + here + c * pixels, v_y.data() + c * kBlock, count * sizeof(T));
            }
            add_rows(v_y.data(), tail.projected.data(), channels, count, sums.data() + beta_at);
            scale_rows<T>(nullptr, w.beta, v_y.data(), v_p.data(), channels, count);
            add_outer(v_p.data(), channels, tail.scaled.data(), channels, count, sums.data() + project1_at);
            add_rows<T>(v_p.data(), nullptr, channels, count, sums.data() + project1_bias_at);
            project1_back.run(v_p.data(), v_scaled.data(), count);
            add_rows(v_scaled.data(), u.data(), channels, count, scale_sums.data());
            for (int64_t c = 0; c < channels; ++c) {
              const T factor = scale.data()[image * channels + c];
              T* to = v_u.data() + here + c * pixels;
#pragma omp simd
              for (int64_t i = 0; i < count; ++i) to[i] = v_scaled.data()[c * kBlock + i] * factor;
            }
          }
          for (int64_t c = 0; c < channels; ++c)
            v_scale.data()[task * channels + c] = lane_sum(scale_sums.data() + c * lanes);
        }
        lane.write(sums.data(), flat);
      }
    }
  }

  // The attention: v_weight = v_scale mean^T, v_mean = weight^T v_scale; each pixel of u had a share in the mean.
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

  // From u to x: through the gate, the depthwise convolution, expand1 and norm1.
  {
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
      NafHead<T> head(expand1, w, channels, static_cast<T>(eps));
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

  for (int64_t i = 0; i < all; ++i) {
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial.data()[chunk * all + i];
    v_weights[i] = static_cast<T>(sum);
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
