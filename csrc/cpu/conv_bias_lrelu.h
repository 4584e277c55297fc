// CPU kernels of conv_bias_lrelu: direct convolution, vectors along the rows of an image. A thread copies a band of
// rows with its zero border into the cache and makes all output channels from it; nothing else is stored between.
#pragma once

#include "bands.h"
#include "scratch.h"
#include "weight_gradient.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Output channels whose sums stay in registers together.
constexpr int kGroup = 4;
// Vectors of neighbouring pixels whose sums stay in registers: AVX-512 has 32 registers, the others 16.
constexpr int kMostVectors = kVectorBytes == 64 ? 4 : 2;

// Weights in the order in which they are read: [group][channel read][tap][kGroup], with zeros for missing channels.
// With `adjoint` the channels written are the convolution's inputs and the taps are turned around.
template <typename T>
void pack_weights(const T* weight, const ConvSize& size, bool adjoint, T* packed) {
  const int64_t area = size.taps * size.taps, reads = adjoint ? size.out : size.in,
                writes = adjoint ? size.in : size.out;
  for (int64_t to = 0; to < round_up(writes, kGroup); ++to) {
    for (int64_t from = 0; from < reads; ++from) {
      for (int64_t tap = 0; tap < area; ++tap) {
        const T* there = adjoint ? weight + (from * size.in + to) * area + area - 1 - tap
                                 : weight + (to * size.in + from) * area + tap;
        packed[((to / kGroup * reads + from) * area + tap) * kGroup + to % kGroup] = to < writes ? *there : T(0);
      }
    }
  }
}

// kGroup output channels of Vectors neighbouring vectors of pixels. `band` points at the top left tap of the first.
template <typename T, int Vectors>
void conv_tile(const T* band, int64_t plane, int64_t pitch, int64_t channels, int64_t taps, const T* weight,
               const T* start, T* line, int64_t line_pitch) {
  using V = typename VectorOf<T>::Type;
  constexpr int64_t lanes = lanes_of<T>();
  V sum[kGroup][Vectors];
  for (int g = 0; g < kGroup; ++g)
    for (int v = 0; v < Vectors; ++v) sum[g][v] = V{} + start[g];
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t ky = 0; ky < taps; ++ky) {
      const T* row = band + c * plane + ky * pitch;
      for (int64_t kx = 0; kx < taps; ++kx, ++row, weight += kGroup) {
        V x[Vectors];
        for (int v = 0; v < Vectors; ++v) x[v] = load<V>(row + v * lanes);
        for (int g = 0; g < kGroup; ++g)
          for (int v = 0; v < Vectors; ++v) sum[g][v] += weight[g] * x[v];
      }
    }
  }
  for (int g = 0; g < kGroup; ++g)
    for (int v = 0; v < Vectors; ++v) store(line + g * line_pitch + v * lanes, sum[g][v]);
}

// One row of kGroup output channels: line[channel * line_pitch + x] for x < width, a multiple of a vector.
template <typename T>
void conv_row(const T* band, int64_t plane, int64_t pitch, int64_t channels, int64_t taps, const T* weight,
              const T* start, T* line, int64_t line_pitch, int64_t width) {
  constexpr int64_t lanes = lanes_of<T>();
  for (int64_t x = 0; x < width;) {
    const int64_t left = (width - x) / lanes;
    const int64_t most = left < kMostVectors ? left : kMostVectors;
    const auto run = most >= 4   ? conv_tile<T, 4>
                     : most == 3 ? conv_tile<T, 3>
                     : most == 2 ? conv_tile<T, 2>
                                 : conv_tile<T, 1>;
    run(band + x, plane, pitch, channels, taps, weight, start, line + x, line_pitch);
    x += most * lanes;
  }
}

// out = lrelu(from) + residual, and which of `from` are positive, where asked for.
template <typename T>
void activate(const T* __restrict from, const T* __restrict residual, T* __restrict out, uint8_t* __restrict positive,
              T slope, int64_t width) {
#pragma omp simd
  for (int64_t x = 0; x < width; ++x) out[x] = from[x] * (from[x] > 0 ? T(1) : slope);
  if (residual) {
#pragma omp simd
    for (int64_t x = 0; x < width; ++x) out[x] += residual[x];
  }
  if (positive) {
#pragma omp simd
    for (int64_t x = 0; x < width; ++x) positive[x] = from[x] > 0;
  }
}

template <typename T>
void conv_bias_lrelu_forward(const T* x, const T* weight, const T* bias, const T* residual, T* out, uint8_t* positive,
                             double slope_, ConvSize size, int threads) {
  const Bands<T> bands(size);
  const T slope = static_cast<T>(slope_);
  const int64_t pixels = size.height * size.width, area = size.taps * size.taps;
  const int64_t groups = round_up(size.out, kGroup) / kGroup, line_pitch = round_up(size.width, lanes_of<T>());
  Scratch<T> packed(groups * kGroup * size.in * area), starts(groups * kGroup);
  pack_weights(weight, size, false, packed.data());
  for (int64_t c = 0; c < groups * kGroup; ++c) starts.data()[c] = c < size.out ? bias[c] : T(0);

#pragma omp parallel num_threads(useful_threads(threads, bands.work(size.in* size.out* size.taps* size.taps)))
  {
    Scratch<T> band(size.in * bands.plane()), line(kGroup * line_pitch);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < bands.count(); ++task) {
      const int64_t image = bands.image(task), top = bands.top(task);
      bands.fill(task, size.in, band.data(), [&](int64_t c, int64_t y, T* to) {
        std::memcpy(to, x + (image * size.in + c) * pixels + y * size.width, size.width * sizeof(T));
      });
      for (int64_t group = 0; group < groups; ++group) {
        for (int64_t r = 0; r < bands.rows(task); ++r) {
          conv_row(band.data() + bands.first_tap(r), bands.plane(), bands.pitch, size.in, size.taps,
                   packed.data() + group * kGroup * size.in * area, starts.data() + group * kGroup, line.data(),
                   line_pitch, line_pitch);
          for (int64_t c = group * kGroup; c < size.out && c < (group + 1) * kGroup; ++c) {
            const int64_t here = (image * size.out + c) * pixels + (top + r) * size.width;
            const T* from = line.data() + c % kGroup * line_pitch;
            activate(from, residual ? residual + here : nullptr, out + here, positive ? positive + here : nullptr,
                     slope, size.width);
          }
        }
      }
    }
  }
}

// The gradient before an activation whose sign is known. A function of its own, so that it turns into vector code.
template <typename T, typename Sign>
void slope_where_negative(const T* __restrict v, const Sign* __restrict sign, T slope, T* __restrict to,
                          int64_t width) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) to[i] = v[i] * (sign[i] > Sign(0) ? T(1) : slope);
}

// With g = v_out * lrelu'(out): v_x = conv^T(g) (+ v_residual), v_weight = x correlated with g,
// v_bias = sum of g. The sign comes from `positive` where given, else from `out`, whose sign the activation kept.
template <typename T>
void conv_bias_lrelu_backward(const T* v_out, const T* x, const T* out, const uint8_t* positive, const T* weight,
                              T* v_x, const T* v_residual, T* v_weight, T* v_bias, double slope_, ConvSize size,
                              int threads) {
  using V = typename VectorOf<T>::Type;
  constexpr int64_t lanes = lanes_of<T>();
  const Bands<T> bands(size);
  const T slope = static_cast<T>(slope_);
  const int64_t pixels = size.height * size.width, area = size.taps * size.taps;
  const int64_t groups = round_up(size.in, kGroup) / kGroup, line_pitch = round_up(size.width, lanes);
  const Correlation<T> correlate(size);
  const int64_t planes = round_up(size.out, correlate.group), weights = correlate.sums(), all = weights + size.out;
  const int64_t chunks = bands.chunks();
  const T zeros[kGroup] = {};
  Scratch<T> packed(groups * kGroup * size.out * area), partial(chunks * all);
  pack_weights(weight, size, true, packed.data());
#pragma omp parallel num_threads(useful_threads(threads, bands.work(size.in* size.out* size.taps* size.taps)))
  {
    Scratch<T> v_band(planes * bands.plane()), x_band(size.in * bands.plane()), line(kGroup * line_pitch);
    Scratch<T> sums(all), packed_v(correlate.group * kConvRows * line_pitch);
    for (int64_t i = 0; i < planes * bands.plane(); ++i) v_band.data()[i] = 0;
#pragma omp for schedule(static)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      for (int64_t i = 0; i < all; ++i) sums.data()[i] = 0;
      for (int64_t task = chunk * bands.count() / chunks; task < (chunk + 1) * bands.count() / chunks; ++task) {
        const int64_t image = bands.image(task), top = bands.top(task), rows = bands.rows(task);
        bands.fill(task, size.out, v_band.data(), [&](int64_t c, int64_t y, T* to) {
          const int64_t here = (image * size.out + c) * pixels + y * size.width;
          if (positive)
            slope_where_negative(v_out + here, positive + here, slope, to, size.width);
          else
            slope_where_negative(v_out + here, out + here, slope, to, size.width);
        });
        bands.fill(task, size.in, x_band.data(), [&](int64_t c, int64_t y, T* to) {
          std::memcpy(to, x + (image * size.in + c) * pixels + y * size.width, size.width * sizeof(T));
        });
        correlate.run(v_band.data(), x_band.data(), bands, rows, size, packed_v.data(), sums.data());
        for (int64_t c = 0; c < size.out; ++c) {
          V sum = {};
          for (int64_t r = 0; r < rows; ++r) {
            const T* row = v_band.data() + c * bands.plane() + bands.pixel(r);
            for (int64_t p = 0; p < size.width; p += lanes) sum += load<V>(row + p);
          }
          sums.data()[weights + c] += lane_sum<T>(sum);
        }
        if (!v_x) continue;
        for (int64_t group = 0; group < groups; ++group) {
          for (int64_t r = 0; r < rows; ++r) {
            conv_row(v_band.data() + bands.first_tap(r), bands.plane(), bands.pitch, size.out, size.taps,
                     packed.data() + group * kGroup * size.out * area, zeros, line.data(), line_pitch, line_pitch);
            for (int64_t c = group * kGroup; c < size.in && c < (group + 1) * kGroup; ++c) {
              const int64_t here = (image * size.in + c) * pixels + (top + r) * size.width;
              const T* from = line.data() + c % kGroup * line_pitch;
              if (v_residual) {
#pragma omp simd
                for (int64_t i = 0; i < size.width; ++i) v_x[here + i] = from[i] + v_residual[here + i];
              } else {
                std::memcpy(v_x + here, from, size.width * sizeof(T));
              }
            }
          }
        }
      }
      for (int64_t i = 0; i < all; ++i) partial.data()[chunk * all + i] = sums.data()[i];
    }
  }

  const auto total = [&](int64_t i) {
    double sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial.data()[chunk * all + i];
    return static_cast<T>(sum);
  };
  for (int64_t i = 0; i < size.out * size.in * area; ++i) v_weight[i] = total(correlate.at(i));
  for (int64_t c = 0; c < size.out; ++c) v_bias[c] = total(weights + c);
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
