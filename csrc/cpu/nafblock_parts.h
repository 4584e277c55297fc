// What nafblock's forward and backward share: its two halves, for a stretch of pixels or a band of rows.
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

}  // namespace RGSUD_ISA
}  // namespace rgsud
