// The CPU kernels as a table of functions: one table per instruction set, the best chosen at run time.
#pragma once

#include "../common.h"
#include "../nss_features.h"
#include "../reward_candidate.h"

namespace rgsud {

// A convolution of `in` to `out` channels with taps x taps weights, odd, and a border of zeros that keeps the size.
struct ConvSize {
  int64_t images, in, out, height, width, taps;
};

// Crops of `side` out of `bytes` of images, and the mean of the same crops of `versions` copies of these bytes.
struct CropSize {
  int64_t count, side, bytes, versions;
};

// One crop: where its image begins in the bytes, the image's sides, the first pixel, and whether it is mirrored.
struct Window {
  int64_t offset, height, width, top, left, flip;
};

// Images of one size, and the square of `side` pixels that is made of each; mean and deviation of red, green and blue.
struct ClipSize {
  int64_t count, height, width, side;
  Taps down, across;
  double mean[3], deviation[3];
};

// Candidates of one size for a reward pool of `entries` images with `slots` versions each, `bytes` a slot of all.
struct PoolSize {
  int64_t count, height, width, entries, slots, bytes;
};

// NAFNet's block: sizes, and its 18 parameters in the order in which they are used and in which gradients lie.
struct NafSize {
  int64_t images, channels, height, width;
};

constexpr int kNafWeights = 18;

// What becomes of the halves a and b of a depth-wise convolution's channels: all stay, a b, or gelu(a) b.
enum class Gate { none, product, gelu };

// Features, and the side of each channel's taps: 3, 5 or 7.
struct DconvSize {
  int64_t images, channels, height, width, taps;
  Gate gate;
};

template <typename T>
struct NafWeights {
  const T *norm1_weight, *norm1_bias, *expand1, *expand1_bias, *depthwise, *depthwise_bias, *attention, *attention_bias,
      *project1, *project1_bias, *norm2_weight, *norm2_bias, *expand2, *expand2_bias, *project2, *project2_bias, *beta,
      *gamma;
};

// All pointers are to contiguous data; `threads` is how many OpenMP threads may work.
template <typename T>
struct CpuKernels {
  // detail = image - blur(image), or with `adjoint` v_image = v_detail - blur^T(v_detail). With channels `beside` the
  // larger stack holds the image as well, see `beside_plane`.
  void (*high_pass)(const T* in, T* out, Planes size, bool adjoint, int64_t beside, int threads);
  // Writes the mean SSIM to `value`, and where v_x or v_y is not null the mean's gradient there; the sum of squared
  // differences of each plane, where asked for, to `squares`.
  void (*ssim)(const T* x, const T* y, T* value, T* v_x, T* v_y, double* squares, Planes size, int threads);
  // values: negative PSNR and 1 - SSIM. Also gives what the backward needs: the gradient of the mean SSIM where it is
  // not null, and the mean squared error of each image.
  void (*derain_loss_forward)(const T* x, const T* y, T* values, T* v_ssim, double* mse, Planes size, int64_t images,
                              int threads);
  void (*derain_loss_backward)(const T* v_values, const T* x, const T* y, const T* v_ssim, const double* mse, T* v_x,
                               int64_t images, int64_t elements, int threads);
  // x, out: [images, channels, pixels]; weight, bias: [channels].
  void (*layernorm2d_forward)(const T* x, const T* weight, const T* bias, T* out, int64_t images, int64_t channels,
                              int64_t pixels, double eps, int threads);
  void (*layernorm2d_backward)(const T* v_out, const T* x, const T* weight, T* v_x, T* v_weight, T* v_bias,
                               int64_t images, int64_t channels, int64_t pixels, double eps, int threads);
  // out = lrelu(conv(x) + bias) (+ residual). Writes which values before the activation are positive where asked for.
  void (*conv_bias_lrelu_forward)(const T* x, const T* weight, const T* bias, const T* residual, T* out,
                                  uint8_t* positive, double slope, ConvSize size, int threads);
  // Needs `out` of a forward without residual, or its `positive`. v_x, where not null, gets v_residual added.
  void (*conv_bias_lrelu_backward)(const T* v_out, const T* x, const T* out, const uint8_t* positive, const T* weight,
                                   T* v_x, const T* v_residual, T* v_weight, T* v_bias, double slope, ConvSize size,
                                   int threads);
  // lrelu((x - mean) / sqrt(var + eps)) of each plane.
  void (*instance_norm_lrelu_forward)(const T* x, T* out, Planes size, double slope, double eps, int threads);
  void (*instance_norm_lrelu_backward)(const T* v_out, const T* x, T* v_x, Planes size, double slope, double eps,
                                       int threads);
  // Also gives what the backward needs: `a`, the gate's input, [images, 2 * channels, height, width], and the mean of
  // its output, [images, channels].
  void (*nafblock_forward)(const T* x, const NafWeights<T>& w, T* out, T* a, T* mean, NafSize size, double eps,
                           int threads);
  void (*nafblock_backward)(const T* v_out, const T* x, const NafWeights<T>& w, const T* a, const T* mean, T* v_x,
                            T* v_weights, NafSize size, double eps, int threads);
  // out = scale * gate(depthwise(x) + bias). Bias, [channels], and scale, [images], may be null, and their gradients.
  void (*gated_dconv_forward)(const T* x, const T* weight, const T* bias, const T* scale, T* out, DconvSize size,
                              int threads);
  void (*gated_dconv_backward)(const T* v_out, const T* x, const T* weight, const T* bias, const T* scale, T* v_x,
                               T* v_weight, T* v_bias, T* v_scale, DconvSize size, int threads);
  // images: [images, 3, plane_height, plane_width] in [0, 1]; features: [images, blocks, 36].
  void (*nss_features)(const T* images, double* features, const NssSize& size, const NssForm& form,
                       const Shapes& shapes, int threads);
  // images: [count, 3, height, width]; out: [count, 3, side, side].
  void (*clip_preprocess)(const T* images, T* out, const ClipSize& size, int threads);
  // out: [count, 6, pixels] of one part: `clean`, then rainy - estimate; each of these [count, 3, pixels].
  void (*rain_residual)(const T* clean, const T* rainy, const T* estimate, T* out, int64_t count, int64_t pixels,
                        int threads);
};

struct CpuTables {
  CpuKernels<float> float32;
  CpuKernels<double> float64;
  // windows: [count]; shares: [count, versions]; crops and, where versions are given, rewards: [count, 3, side, side].
  void (*take_crops)(const uint8_t* pixels, const uint8_t* versions, const Window* windows, const float* shares,
                     float* crops, float* rewards, CropSize size, int threads);
  // arena: [slots, bytes]; scores: [entries, slots]; images: [count, 3, height, width]; places: [count, 2].
  void (*pool_update)(uint8_t* arena, float* scores, const float* images, const float* values, const int64_t* places,
                      bool* entered, PoolSize size, float margin, int threads);
  // layers: [count, 6]; writes `images.image` where it is not null.
  void (*reward_candidate)(const CandidateImages& images, double* layers, const CandidateSize& size, int threads);
  const char* instruction_set;
};

// The table for this processor: the widest instruction set that was compiled and that it has.
const CpuTables& cpu_tables();

template <typename T>
const CpuKernels<T>& cpu_kernels();

}  // namespace rgsud
