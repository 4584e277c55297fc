// CPU kernels of gated_dconv: a channel or a gate's pair at a time, a band of rows with its border in the cache.
#pragma once

#include "depthwise_rows.h"
#include "gelu.h"
#include "scratch.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Elements of a band of one channel, about: six of them fit the second-level cache.
constexpr int64_t kBandElements = 16384;

template <typename T>
void clear(T* to, int64_t count) {
  std::memset(to, 0, count * sizeof(T));
}

// The cut into tasks: an image's channel, or pair of channels `units` apart, and a band of its rows.
template <typename T>
struct GatedTasks {
  const DconvSize size;
  const int64_t halves, units, radius, area, margin, pitch, across, band, bands, most, sums;

  explicit GatedTasks(const DconvSize& size)
      : size(size),
        halves(size.gate == Gate::none ? 1 : 2),
        units(size.channels / halves),
        radius(size.taps / 2),
        area(size.taps * size.taps),
        margin(round_up(radius, lanes_of<T>())),
        pitch(round_up(size.width, lanes_of<T>()) + 2 * margin),
        across(round_up(size.width, lanes_of<T>())),
        band(band_rows(kBandElements / pitch)),
        bands((size.height + band - 1) / band),
        most(round_up(band + 2 * radius, kDconvRows) + 2 * radius),
        sums(halves * (area + 1) + 1) {}

  int64_t count() const { return size.images * units * bands; }
  int64_t image(int64_t task) const { return task / (units * bands); }
  int64_t unit(int64_t task) const { return task / bands % units; }
  int64_t top(int64_t task) const { return task % bands * band; }
  int64_t rows(int64_t task) const { return size.height - top(task) < band ? size.height - top(task) : band; }
  int64_t channel(int64_t task, int64_t half) const { return unit(task) + half * units; }
  int64_t plane() const { return most * pitch; }
  int team(int threads, int64_t passes) const {
    return useful_threads(threads, size.images * size.channels * size.height * size.width * passes * area / 256);
  }
  // The first element of row y of a channel of x, or of a unit of the output.
  int64_t x_row(int64_t task, int64_t half, int64_t y) const {
    return ((image(task) * size.channels + channel(task, half)) * size.height + y) * size.width;
  }
  int64_t out_row(int64_t task, int64_t y) const {
    return ((image(task) * units + unit(task)) * size.height + y) * size.width;
  }

  // Copy `count` rows of x from row `first` on, with zeros outside the image.
  void fill(const T* x, int64_t task, int64_t half, int64_t first, int64_t count, T* to) const {
    for (int64_t y = first; y < first + count; ++y, to += pitch) {
      const bool inside = y >= 0 && y < size.height;
      if (inside) std::memcpy(to + margin, x + x_row(task, half, y), size.width * sizeof(T));
      clear(to, margin);
      clear(to + margin + (inside ? size.width : 0), pitch - margin - (inside ? size.width : 0));
    }
  }

 private:
  int64_t band_rows(int64_t fit) const {
    const int64_t rows = fit < size.height ? fit / kDconvRows * kDconvRows : round_up(size.height, kDconvRows);
    return rows < kDconvRows ? kDconvRows : rows;
  }
};

// Writes scale * gate(a, b), or scale * a without a gate, over a.
template <typename T>
void gate_row(Gate gate, T scale, T* a, const T* b, int64_t across) {
  using V = typename VectorOf<T>::Type;
  for (int64_t p = 0; p < across; p += lanes_of<T>()) {
    V value = load<V>(a + p) * scale;
    if (gate == Gate::gelu) value *= Normal<T>(load<V>(a + p)).below;
    if (gate != Gate::none) value *= load<V>(b + p);
    store(a + p, value);
  }
}

// Writes the gradients at a and b over them; v: the gradient at the output. `along` gets the sum of v and the output
// before its scale.
template <typename T>
void gate_back_row(Gate gate, T scale, const T* v, T* a, T* b, int64_t across, T* along) {
  using V = typename VectorOf<T>::Type;
  V sum{};
  for (int64_t p = 0; p < across; p += lanes_of<T>()) {
    const V one = load<V>(v + p), before = load<V>(a + p);
    if (gate == Gate::none) {
      sum += one * before;
      store(a + p, one * scale);
      continue;
    }
    V active = before, slope = V{} + 1, other = load<V>(b + p);
    if (gate == Gate::gelu) {
      const Normal<T> normal(before);
      active = before * normal.below;
      slope = normal.below + before * normal.density;
    }
    sum += one * active * other;
    store(a + p, one * scale * other * slope);
    store(b + p, one * scale * active);
  }
  *along = lane_sum<T>(sum);
}

template <typename T>
void gated_dconv_forward(const T* x, const T* weight, const T* bias, const T* scale, T* out, DconvSize size,
                         int threads) {
  const GatedTasks<T> tasks(size);
  const RowFunctions<T> run(size.taps);
#pragma omp parallel num_threads(tasks.team(threads, 1))
  {
    Scratch<T> before(tasks.plane()), made(2 * tasks.plane());
    T* half[2] = {made.data(), made.data() + tasks.plane()};
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks.count(); ++task) {
      const int64_t rows = tasks.rows(task), whole = round_up(rows, kDconvRows);
      for (int64_t h = 0; h < tasks.halves; ++h) {
        const int64_t c = tasks.channel(task, h);
        tasks.fill(x, task, h, tasks.top(task) - tasks.radius, whole + 2 * tasks.radius, before.data());
        run.convolve(before.data() + tasks.margin - tasks.radius, weight + c * tasks.area, bias ? bias[c] : T(0),
                     half[h], whole, tasks.across, tasks.pitch);
      }
      const T factor = scale ? scale[tasks.image(task)] : T(1);
      for (int64_t y = 0; y < rows; ++y) {
        T* a = half[0] + y * tasks.pitch;
        if (size.gate != Gate::none || scale) gate_row(size.gate, factor, a, half[1] + y * tasks.pitch, tasks.across);
        std::memcpy(out + tasks.out_row(task, tasks.top(task) + y), a, size.width * sizeof(T));
      }
    }
  }
}

// The backward of one task; makes the convolution again where the gate or the scale asks for it.
template <typename T>
struct GatedBack {
  const GatedTasks<T>& tasks;
  const RowFunctions<T>& run;
  const T *weight, *turned, *bias, *scale;
  Scratch<T> before, made, row;

  GatedBack(const GatedTasks<T>& tasks, const RowFunctions<T>& run, const T* weight, const T* turned, const T* bias,
            const T* scale)
      : tasks(tasks),
        run(run),
        weight(weight),
        turned(turned),
        bias(bias),
        scale(scale),
        before(2 * tasks.plane()),
        made(2 * tasks.plane()),
        row(tasks.across) {
    clear(made.data(), 2 * tasks.plane());  // its margins stay so
    clear(row.data(), tasks.across);
  }

  // sums: of the weights and the bias of each half, then of the scale.
  void task(int64_t task, const T* v_out, const T* x, T* v_x, T* sums) {
    const int64_t rows = tasks.rows(task), whole = round_up(rows, kDconvRows), radius = tasks.radius;
    const int64_t first = tasks.top(task) - radius, wide = round_up(whole + 2 * radius, kDconvRows);
    for (int64_t h = 0; h < tasks.halves; ++h) {
      tasks.fill(x, task, h, first - radius, wide + 2 * radius, plane(before, h));
      const int64_t c = tasks.channel(task, h);
      if (tasks.size.gate != Gate::none || scale)
        run.convolve(plane(before, h) + tasks.margin - radius, weight + c * tasks.area, bias ? bias[c] : T(0),
                     plane(made, h) + tasks.margin, wide, tasks.across, tasks.pitch);
    }
    sums[tasks.sums - 1] = through_gate(task, v_out, first, wide);
    for (int64_t h = 0; h < tasks.halves; ++h, sums += tasks.area + 1) {
      const T* v = plane(made, h);
      run.correlate(v + radius * tasks.pitch + tasks.margin,
                    plane(before, h) + radius * tasks.pitch + tasks.margin - radius, sums, whole, tasks.across,
                    tasks.pitch);
      sums[tasks.area] = total(v + radius * tasks.pitch + tasks.margin, whole);
      run.convolve(v + tasks.margin - radius, turned + tasks.channel(task, h) * tasks.area, T(0), plane(before, h),
                   whole, tasks.across, tasks.pitch);
      for (int64_t y = 0; y < rows; ++y)
        std::memcpy(v_x + tasks.x_row(task, h, tasks.top(task) + y), plane(before, h) + y * tasks.pitch,
                    tasks.size.width * sizeof(T));
    }
  }

 private:
  T* plane(Scratch<T>& memory, int64_t half) { return memory.data() + half * tasks.plane(); }

  // Turns `made` into the gradient there, 0 outside the image; returns the scale's sum over the task's own rows.
  T through_gate(int64_t task, const T* v_out, int64_t first, int64_t wide) {
    T all = 0;
    for (int64_t y = first; y < first + wide; ++y) {
      T *a = plane(made, 0) + (y - first) * tasks.pitch + tasks.margin, *b = a + tasks.plane();
      if (y < 0 || y >= tasks.size.height) {
        clear(a, tasks.across);
        if (tasks.halves == 2) clear(b, tasks.across);
        continue;
      }
      std::memcpy(row.data(), v_out + tasks.out_row(task, y), tasks.size.width * sizeof(T));
      T along;
      gate_back_row(tasks.size.gate, scale ? scale[tasks.image(task)] : T(1), row.data(), a, b, tasks.across, &along);
      if (y >= tasks.top(task) && y < tasks.top(task) + tasks.rows(task)) all += along;
    }
    return all;
  }

  T total(const T* v, int64_t rows) const {
    using V = typename VectorOf<T>::Type;
    V sum{};
    for (int64_t y = 0; y < rows; ++y)
      for (int64_t p = 0; p < tasks.across; p += lanes_of<T>()) sum += load<V>(v + y * tasks.pitch + p);
    return lane_sum<T>(sum);
  }
};

// v_bias and v_scale where not null. What tasks leave is added up in their order.
template <typename T>
void gated_dconv_backward(const T* v_out, const T* x, const T* weight, const T* bias, const T* scale, T* v_x,
                          T* v_weight, T* v_bias, T* v_scale, DconvSize size, int threads) {
  const GatedTasks<T> tasks(size);
  const RowFunctions<T> run(size.taps);
  Scratch<T> turned(size.channels * tasks.area), partial(tasks.count() * tasks.sums);
  for (int64_t i = 0; i < size.channels * tasks.area; ++i)
    turned.data()[i] = weight[i / tasks.area * tasks.area + tasks.area - 1 - i % tasks.area];
#pragma omp parallel num_threads(tasks.team(threads, 4))
  {
    GatedBack<T> back(tasks, run, weight, turned.data(), bias, scale);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks.count(); ++task)
      back.task(task, v_out, x, v_x, partial.data() + task * tasks.sums);
  }

  const int64_t of_half = tasks.area + 1;
  for (int64_t c = 0; c < size.channels; ++c) {
    for (int64_t k = 0; k < of_half; ++k) {
      double sum = 0;
      for (int64_t n = 0; n < size.images; ++n)
        for (int64_t b = 0; b < tasks.bands; ++b)
          sum += partial.data()[((n * tasks.units + c % tasks.units) * tasks.bands + b) * tasks.sums +
                                c / tasks.units * of_half + k];
      if (k < tasks.area)
        v_weight[c * tasks.area + k] = static_cast<T>(sum);
      else if (v_bias)
        v_bias[c] = static_cast<T>(sum);
    }
  }
  for (int64_t n = 0; v_scale && n < size.images; ++n) {
    double sum = 0;
    for (int64_t i = n * tasks.units * tasks.bands; i < (n + 1) * tasks.units * tasks.bands; ++i)
      sum += partial.data()[(i + 1) * tasks.sums - 1];
    v_scale[n] = static_cast<T>(sum);
  }
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
