// The CPU kernels as a table of functions: one table per instruction set, the best chosen at run time.
#pragma once

#include "../common.h"

namespace rgsud {

// All pointers are to contiguous data; `threads` is how many OpenMP threads may work.
template <typename T>
struct CpuKernels {
  // detail = image - blur(image), or with `adjoint` v_image = v_detail - blur^T(v_detail).
  void (*high_pass)(const T* in, T* out, Planes size, bool adjoint, int threads);
  // Writes the mean SSIM to `value`, and where v_x or v_y is not null the mean's gradient there.
  void (*ssim)(const T* x, const T* y, T* value, T* v_x, T* v_y, Planes size, int threads);
  // x, out: [images, channels, pixels]; weight, bias: [channels].
  void (*layernorm2d_forward)(const T* x, const T* weight, const T* bias, T* out, int64_t images, int64_t channels,
                              int64_t pixels, double eps, int threads);
  void (*layernorm2d_backward)(const T* v_out, const T* x, const T* weight, T* v_x, T* v_weight, T* v_bias,
                               int64_t images, int64_t channels, int64_t pixels, double eps, int threads);
};

struct CpuTables {
  CpuKernels<float> float32;
  CpuKernels<double> float64;
  const char* instruction_set;
};

// The table for this processor: the widest instruction set that was compiled and that it has.
const CpuTables& cpu_tables();

template <typename T>
const CpuKernels<T>& cpu_kernels();

}  // namespace rgsud
