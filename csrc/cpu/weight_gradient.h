// The weight gradient of a convolution over one band of rows: as many sums as the registers hold, in vectors over the
// pixels; then each vector is added across by a tree, so that what is kept between bands fits the nearest cache.
#pragma once

#include "bands.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Sums that a visit leaves, with room up to a whole vector.
template <typename T, int Group, int Taps>
constexpr int slots() {
  return (Group * Taps + lanes_of<T>() - 1) / lanes_of<T>() * lanes_of<T>();
}

// Adds to `sums` the products of v (the gradient before the activation) and x over one band. A visit is Group output
// channels, one input channel, Taps of a row of taps; see Correlation::at for the order. `packed` has room for v of
// Group channels.
template <typename T, int Group, int Taps>
void weight_gradient(const T* v, const T* x, const Bands<T>& bands, int64_t rows, const ConvSize& size, T* packed,
                     T* sums) {
  using V = typename VectorOf<T>::Type;
  constexpr int64_t lanes = lanes_of<T>();
  constexpr int Few = Group < Taps ? Group : Taps, Many = Group < Taps ? Taps : Group;
  const int64_t plane = bands.plane(), pitch = bands.pitch;
  for (int64_t out = 0; out < size.out; out += Group) {
    // Side by side, in the order in which the pixels are read: with one address to count up, no register is short.
    T* to = packed;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t p = 0; p < size.width; p += lanes)
        for (int g = 0; g < Group; ++g, to += lanes) store(to, load<V>(v + (out + g) * plane + bands.pixel(r) + p));

    for (int64_t in = 0; in < size.in; ++in) {
      for (int64_t ky = 0; ky < size.taps; ++ky) {
        for (int64_t kx = 0; kx < size.taps; kx += Taps, sums += slots<T, Group, Taps>()) {
          V sum[Group * Taps] = {};
          const T* from = packed;
          for (int64_t r = 0; r < rows; ++r) {
            const T* x_row = x + in * plane + bands.first_tap(r) + ky * pitch + kx;
            for (int64_t p = 0; p < size.width; p += lanes, from += Group * lanes) {
              V few[Few];
              for (int i = 0; i < Few; ++i) few[i] = keep(load<V>(Group < Taps ? from + i * lanes : x_row + p + i));
              for (int i = 0; i < Many; ++i) {
                const V one = keep(load<V>(Group < Taps ? x_row + p + i : from + i * lanes));
                for (int j = 0; j < Few; ++j) sum[Group < Taps ? j * Taps + i : i * Taps + j] += one * few[j];
              }
            }
          }
          add_across<T, Group * Taps>(sum);
          for (int i = 0; i < Group * Taps; i += lanes) store(sums + i, load<V>(sums + i) + sum[i / lanes]);
        }
      }
    }
  }
}

// The fastest weight_gradient for a convolution: as many sums as the registers hold.
template <typename T>
struct Correlation {
  ConvSize size;
  int group, taps, slots_of_visit;
  void (*run)(const T*, const T*, const Bands<T>&, int64_t, const ConvSize&, T*, T*);

  explicit Correlation(const ConvSize& size) : size(size) {
    constexpr bool wide = kVectorBytes == 64;  // 32 registers, not 16
    if (size.taps % 7 == 0)
      choose<wide ? 3 : 1, 7>();
    else if (size.taps % 3 == 0)
      choose<wide ? 8 : 3, 3>();
    else
      choose<8, 1>();
  }

  // Sums of all visits; channels past the last have room, and are 0.
  int64_t sums() const {
    return round_up(size.out, group) / group * size.in * size.taps * (size.taps / taps) * slots_of_visit;
  }
  // Where the sum of element i of the weights, [out, in, taps, taps], lies.
  int64_t at(int64_t i) const {
    const int64_t area = size.taps * size.taps, out = i / (size.in * area), in = i / area % size.in;
    const int64_t ky = i % area / size.taps, kx = i % size.taps;
    const int64_t visit = ((out / group * size.in + in) * size.taps + ky) * (size.taps / taps) + kx / taps;
    return visit * slots_of_visit + out % group * taps + kx % taps;
  }

 private:
  template <int Group, int Taps>
  void choose() {
    group = Group;
    taps = Taps;
    slots_of_visit = slots<T, Group, Taps>();
    run = weight_gradient<T, Group, Taps>;
  }
};

}  // namespace RGSUD_ISA
}  // namespace rgsud
