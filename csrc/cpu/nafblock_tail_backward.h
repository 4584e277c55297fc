// The second half of nafblock, backward: what the pass from the output to u keeps, and its phases for a block of
// pixels.
#pragma once

#include "nafblock_parts.h"

namespace rgsud {
inline namespace RGSUD_ISA {

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
          flat[part.at + o * part.in + i] = lane_sum<T>(sums + part.from + (o * part.pitch + i) * lanes_of<T>());
    }
  }
};

// What the threads of the pass from the output to u share: the second half's matrices, and where their sums begin.
template <typename T>
struct NafTailMatrices {
  Mixer<T> project1, expand2, project2, project1_back, expand2_back, project2_back;
  LaneSums<T> lane;
  int64_t project1_at, project1_bias_at, expand2_at, expand2_bias_at, project2_at, project2_bias_at, beta_at, gamma_at;

  NafTailMatrices(const NafWeights<T>& w, const NafLayout& layout, int64_t c)
      : project1(w.project1, w.project1_bias, c, c, false),
        expand2(w.expand2, w.expand2_bias, 2 * c, c, false),
        project2(w.project2, w.project2_bias, c, c, false),
        project1_back(w.project1, nullptr, c, c, true),
        expand2_back(w.expand2, nullptr, 2 * c, c, true),
        project2_back(w.project2, nullptr, c, c, true),
        project1_at(lane.add_matrix(layout.at[8], c, c)),
        project1_bias_at(lane.add_vector(layout.at[9], c)),
        expand2_at(lane.add_matrix(layout.at[12], 2 * c, c)),
        expand2_bias_at(lane.add_vector(layout.at[13], 2 * c)),
        project2_at(lane.add_matrix(layout.at[14], c, c)),
        project2_bias_at(lane.add_vector(layout.at[15], c)),
        beta_at(lane.add_vector(layout.at[16], c)),
        gamma_at(lane.add_vector(layout.at[17], c)) {}
};

// One thread's memory of that pass, and its phases for a block of pixels, from the output backwards.
template <typename T>
struct NafTailBack {
  static constexpr int64_t lanes = lanes_of<T>();
  NafTailMatrices<T>& shared;
  const NafWeights<T>& w;
  const NafLayout& layout;
  const int64_t channels;
  NafTail<T> tail;
  Rows<T> halves, u, g, v_q, v_gated, v_expanded, v_normed, v_y, v_p, v_scaled;
  Scratch<T> sums, scale_sums;
  T* flat = nullptr;  // the chunk's gradients

  NafTailBack(NafTailMatrices<T>& shared, const NafWeights<T>& w, const NafLayout& layout, int64_t c, T eps)
      : shared(shared),
        w(w),
        layout(layout),
        channels(c),
        tail(shared.project1, shared.expand2, shared.project2, w, c, eps),
        halves(2 * c),
        u(c),
        g(c),
        v_q(c),
        v_gated(c),
        v_expanded(2 * c),
        v_normed(c),
        v_y(c),
        v_p(c),
        v_scaled(c),
        sums(shared.lane.size),
        scale_sums(c * lanes) {}

  void begin_chunk(T* gradients) {
    flat = gradients;
    for (int64_t i = 0; i < shared.lane.size; ++i) sums.data()[i] = 0;
  }

  void begin_task() {
    for (int64_t i = 0; i < channels * lanes; ++i) scale_sums.data()[i] = 0;
  }

  void end_task(T* v_scale) const {
    for (int64_t c = 0; c < channels; ++c) v_scale[c] = lane_sum<T>(scale_sums.data() + c * lanes);
  }

  // Everything again up to project2's output, from x and the gate's input a.
  void forward(const T* x, const T* a, const T* scale, int64_t pixels, int64_t count) {
    load_block(a, 2 * channels, pixels, count, halves.data());
    multiply_rows(halves.data(), halves.data() + channels * kBlock, u.data(), channels, count);
    tail.run(x, u.data(), scale, pixels, count);
  }

  // The gradient at the output through gamma and project2.
  void through_project2(const T* v_out, int64_t pixels, int64_t count) {
    load_block(v_out, channels, pixels, count, g.data());
    add_rows(g.data(), tail.out.data(), channels, count, sums.data() + shared.gamma_at);
    scale_rows<T>(nullptr, w.gamma, g.data(), v_q.data(), channels, count);
    add_outer(v_q.data(), channels, tail.gated.data(), channels, count, sums.data() + shared.project2_at);
    add_rows<T>(v_q.data(), nullptr, channels, count, sums.data() + shared.project2_bias_at);
    shared.project2_back.run(v_q.data(), v_gated.data(), count);
  }

  // Through the second gate, expand2 and norm2; with the skip that makes the gradient at y.
  void through_expand2(int64_t count) {
    multiply_rows(v_gated.data(), tail.expanded.data() + channels * kBlock, v_expanded.data(), channels, count);
    multiply_rows(v_gated.data(), tail.expanded.data(), v_expanded.data() + channels * kBlock, channels, count);
    add_outer(v_expanded.data(), 2 * channels, tail.normed.data(), channels, count, sums.data() + shared.expand2_at);
    add_rows<T>(v_expanded.data(), nullptr, 2 * channels, count, sums.data() + shared.expand2_bias_at);
    shared.expand2_back.run(v_expanded.data(), v_normed.data(), count);
    backward_block(v_normed.data(), w.norm2_weight, tail.normal.data(), tail.inverse, v_y.data(), flat + layout.at[10],
                   flat + layout.at[11], channels, kBlock, count);
    for (int64_t c = 0; c < channels; ++c) {
#pragma omp simd
      for (int64_t i = 0; i < count; ++i) v_y.data()[c * kBlock + i] += g.data()[c * kBlock + i];
      for (int64_t i = count; i < round_up(count, lanes); ++i) v_y.data()[c * kBlock + i] = 0;
    }
  }

  // The gradient at y through beta and project1, to that of u times the attention's scale.
  void through_project1(int64_t count) {
    add_rows(v_y.data(), tail.projected.data(), channels, count, sums.data() + shared.beta_at);
    scale_rows<T>(nullptr, w.beta, v_y.data(), v_p.data(), channels, count);
    add_outer(v_p.data(), channels, tail.scaled.data(), channels, count, sums.data() + shared.project1_at);
    add_rows<T>(v_p.data(), nullptr, channels, count, sums.data() + shared.project1_bias_at);
    shared.project1_back.run(v_p.data(), v_scaled.data(), count);
    add_rows(v_scaled.data(), u.data(), channels, count, scale_sums.data());
  }
};

}  // namespace RGSUD_ISA
}  // namespace rgsud
