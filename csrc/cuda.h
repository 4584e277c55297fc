// Launchers of the CUDA kernels: raw device pointers and the caller's stream. They throw where a launch fails.
#pragma once

#include "common.h"

namespace rgsud {

using Stream = void*;  // cudaStream_t, without its header

template <typename T>
void high_pass_cuda(const T* in, T* out, Planes size, bool adjoint, Stream stream);

// `partials` holds ssim_cuda_partials(size) doubles. `moments` holds 4 * planes * (height - 10) * (width - 10)
// elements where a gradient is asked for (v_x or v_y not null), else it is null.
template <typename T>
void ssim_cuda(const T* x, const T* y, T* value, T* v_x, T* v_y, T* moments, double* partials, Planes size,
               Stream stream);
int64_t ssim_cuda_partials(Planes size);

}  // namespace rgsud
