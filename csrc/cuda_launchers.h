// Launchers of the CUDA kernels: raw device pointers and the caller's stream. They throw where a launch fails.
#pragma once

#include "common.h"
#include "nss_features.h"
#include "reward_candidate.h"

namespace rgsud {

using Stream = void*;  // cudaStream_t, without its header

template <typename T>
void high_pass_cuda(const T* in, T* out, Planes size, bool adjoint, int64_t beside, Stream stream);

// `partials` holds ssim_cuda_partials(size) doubles, `squares`, where not null, as many: the sums of squared
// differences of each tile. `moments` holds 4 * planes * (height - 10) * (width - 10) elements where a gradient is
// asked for (v_x or v_y not null), else it is null.
template <typename T>
void ssim_cuda(const T* x, const T* y, T* value, T* v_x, T* v_y, T* moments, double* partials, double* squares,
               Planes size, Stream stream);
int64_t ssim_cuda_partials(Planes size);

// Scratch memory: `grey` and `half` hold an image at full and at half scale, `normal` one at full scale, for every
// image; `tails` nss_features_cuda_tails(size) of them.
template <typename T>
void nss_features_cuda(const T* images, float* grey, double* half, float* normal, Tails* tails, double* features,
                       const NssSize& size, const NssForm& form, const Shapes& shapes, Stream stream);
int64_t nss_features_cuda_tails(const NssSize& size);

// From what ssim_cuda left: values[0] the negative PSNR, values[1] from the mean SSIM to 1 - SSIM, and each image's
// mse.
template <typename T>
void derain_loss_forward_cuda(const double* squares, int64_t tiles, T* values, double* mse, int64_t images,
                              int64_t elements, Stream stream);
template <typename T>
void derain_loss_backward_cuda(const T* v_values, const T* x, const T* y, const T* v_ssim, const double* mse, T* v_x,
                               int64_t images, int64_t elements, Stream stream);

// layers: [count, 6]; `partials` holds reward_candidate_cuda_partials(size) doubles. Writes `images.image` where it is
// not null.
void reward_candidate_cuda(const CandidateImages& images, LayerSums* partials, double* layers,
                           const CandidateSize& size, Stream stream);
int64_t reward_candidate_cuda_partials(const CandidateSize& size);

}  // namespace rgsud
