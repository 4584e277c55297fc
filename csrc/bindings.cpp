// The Python module rgsud_fast._C: addresses, sizes and a stream in; it knows no PyTorch. CUDA: bindings_cuda.cpp.
#include "bindings.h"

#include <pybind11/stl.h>

#include <vector>

#include "cpu/table.h"

namespace rgsud {
namespace {

// images, channels in, channels out, height, width, taps
ConvSize conv_size(const std::array<int64_t, 6>& s) { return {s[0], s[1], s[2], s[3], s[4], s[5]}; }

void high_pass_cpu(const std::string& dtype, uintptr_t in, uintptr_t out, int64_t planes, int64_t height, int64_t width,
                   bool adjoint, int64_t beside, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().high_pass(at<T>(in), at<T>(out), {planes, height, width}, adjoint, beside, threads);
  });
}

void ssim_cpu(const std::string& dtype, uintptr_t x, uintptr_t y, uintptr_t value, uintptr_t v_x, uintptr_t v_y,
              int64_t planes, int64_t height, int64_t width, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().ssim(at<T>(x), at<T>(y), at<T>(value), at<T>(v_x), at<T>(v_y), nullptr, {planes, height, width},
                          threads);
  });
}

void derain_loss_forward_cpu(const std::string& dtype, uintptr_t x, uintptr_t y, uintptr_t values, uintptr_t v_ssim,
                             uintptr_t mse, int64_t images, int64_t channels, int64_t height, int64_t width,
                             int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().derain_loss_forward(at<T>(x), at<T>(y), at<T>(values), at<T>(v_ssim), at<double>(mse),
                                         {images * channels, height, width}, images, threads);
  });
}

void derain_loss_backward_cpu(const std::string& dtype, uintptr_t v_values, uintptr_t x, uintptr_t y, uintptr_t v_ssim,
                              uintptr_t mse, uintptr_t v_x, int64_t images, int64_t elements, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().derain_loss_backward(at<T>(v_values), at<T>(x), at<T>(y), at<T>(v_ssim), at<double>(mse),
                                          at<T>(v_x), images, elements, threads);
  });
}

void layernorm2d_forward_cpu(const std::string& dtype, uintptr_t x, uintptr_t weight, uintptr_t bias, uintptr_t out,
                             int64_t images, int64_t channels, int64_t pixels, double eps, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().layernorm2d_forward(at<T>(x), at<T>(weight), at<T>(bias), at<T>(out), images, channels, pixels,
                                         eps, threads);
  });
}

void layernorm2d_backward_cpu(const std::string& dtype, uintptr_t v_out, uintptr_t x, uintptr_t weight, uintptr_t v_x,
                              uintptr_t v_weight, uintptr_t v_bias, int64_t images, int64_t channels, int64_t pixels,
                              double eps, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().layernorm2d_backward(at<T>(v_out), at<T>(x), at<T>(weight), at<T>(v_x), at<T>(v_weight),
                                          at<T>(v_bias), images, channels, pixels, eps, threads);
  });
}

void conv_bias_lrelu_forward_cpu(const std::string& dtype, uintptr_t x, uintptr_t weight, uintptr_t bias,
                                 uintptr_t residual, uintptr_t out, uintptr_t positive, double slope,
                                 const std::array<int64_t, 6>& size, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().conv_bias_lrelu_forward(at<T>(x), at<T>(weight), at<T>(bias), at<T>(residual), at<T>(out),
                                             at<uint8_t>(positive), slope, conv_size(size), threads);
  });
}

void conv_bias_lrelu_backward_cpu(const std::string& dtype, uintptr_t v_out, uintptr_t x, uintptr_t out,
                                  uintptr_t positive, uintptr_t weight, uintptr_t v_x, uintptr_t v_residual,
                                  uintptr_t v_weight, uintptr_t v_bias, double slope,
                                  const std::array<int64_t, 6>& size, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().conv_bias_lrelu_backward(at<T>(v_out), at<T>(x), at<T>(out), at<uint8_t>(positive), at<T>(weight),
                                              at<T>(v_x), at<T>(v_residual), at<T>(v_weight), at<T>(v_bias), slope,
                                              conv_size(size), threads);
  });
}

void instance_norm_lrelu_forward_cpu(const std::string& dtype, uintptr_t x, uintptr_t out, int64_t planes,
                                     int64_t height, int64_t width, double slope, double eps, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().instance_norm_lrelu_forward(at<T>(x), at<T>(out), {planes, height, width}, slope, eps, threads);
  });
}

void instance_norm_lrelu_backward_cpu(const std::string& dtype, uintptr_t v_out, uintptr_t x, uintptr_t v_x,
                                      int64_t planes, int64_t height, int64_t width, double slope, double eps,
                                      int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().instance_norm_lrelu_backward(at<T>(v_out), at<T>(x), at<T>(v_x), {planes, height, width}, slope,
                                                  eps, threads);
  });
}

template <typename T>
NafWeights<T> naf_weights(const std::array<uintptr_t, kNafWeights>& w) {
  return {at<T>(w[0]),  at<T>(w[1]),  at<T>(w[2]),  at<T>(w[3]),  at<T>(w[4]),  at<T>(w[5]),
          at<T>(w[6]),  at<T>(w[7]),  at<T>(w[8]),  at<T>(w[9]),  at<T>(w[10]), at<T>(w[11]),
          at<T>(w[12]), at<T>(w[13]), at<T>(w[14]), at<T>(w[15]), at<T>(w[16]), at<T>(w[17])};
}

void nafblock_forward_cpu(const std::string& dtype, uintptr_t x, const std::array<uintptr_t, kNafWeights>& weights,
                          uintptr_t out, uintptr_t a, uintptr_t mean, int64_t images, int64_t channels, int64_t height,
                          int64_t width, double eps, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().nafblock_forward(at<T>(x), naf_weights<T>(weights), at<T>(out), at<T>(a), at<T>(mean),
                                      {images, channels, height, width}, eps, threads);
  });
}

void nafblock_backward_cpu(const std::string& dtype, uintptr_t v_out, uintptr_t x,
                           const std::array<uintptr_t, kNafWeights>& weights, uintptr_t a, uintptr_t mean,
                           uintptr_t v_x, uintptr_t v_weights, int64_t images, int64_t channels, int64_t height,
                           int64_t width, double eps, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().nafblock_backward(at<T>(v_out), at<T>(x), naf_weights<T>(weights), at<T>(a), at<T>(mean),
                                       at<T>(v_x), at<T>(v_weights), {images, channels, height, width}, eps, threads);
  });
}

// images, channels, height, width, taps
DconvSize dconv_size(const std::array<int64_t, 5>& s, const std::string& gate) {
  if (gate != "none" && gate != "product" && gate != "gelu") throw std::invalid_argument("no gate " + gate);
  return {s[0], s[1], s[2], s[3], s[4], gate == "none" ? Gate::none : gate == "gelu" ? Gate::gelu : Gate::product};
}

void gated_dconv_forward_cpu(const std::string& dtype, uintptr_t x, uintptr_t weight, uintptr_t bias, uintptr_t scale,
                             uintptr_t out, const std::array<int64_t, 5>& size, const std::string& gate, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().gated_dconv_forward(at<T>(x), at<T>(weight), at<T>(bias), at<T>(scale), at<T>(out),
                                         dconv_size(size, gate), threads);
  });
}

void gated_dconv_backward_cpu(const std::string& dtype, uintptr_t v_out, uintptr_t x, uintptr_t weight, uintptr_t bias,
                              uintptr_t scale, uintptr_t v_x, uintptr_t v_weight, uintptr_t v_bias, uintptr_t v_scale,
                              const std::array<int64_t, 5>& size, const std::string& gate, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().gated_dconv_backward(at<T>(v_out), at<T>(x), at<T>(weight), at<T>(bias), at<T>(scale), at<T>(v_x),
                                          at<T>(v_weight), at<T>(v_bias), at<T>(v_scale), dconv_size(size, gate),
                                          threads);
  });
}

void take_crops_cpu(uintptr_t pixels, uintptr_t versions, uintptr_t windows, uintptr_t shares, uintptr_t crops,
                    uintptr_t rewards, int64_t count, int64_t side, int64_t bytes, int64_t kept, int threads) {
  constexpr int64_t far = int64_t{1} << 62;  // beyond it the sum with a place in the crop might overflow
  const auto* window = at<Window>(windows);
  for (int64_t n = 0; n < count; ++n) {
    const Window& w = window[n];
    const bool fits = w.offset >= 0 && w.height > 0 && w.width > 0 && w.top >= 0 && w.left >= 0 && w.top < far &&
                      w.left < far && w.height <= bytes / 3 / w.width && w.offset <= bytes - 3 * w.height * w.width;
    if (!fits) throw std::invalid_argument("window " + std::to_string(n) + " lies outside the pixels");
  }
  cpu_tables().take_crops(at<uint8_t>(pixels), at<uint8_t>(versions), window, at<float>(shares), at<float>(crops),
                          at<float>(rewards), {count, side, bytes, kept}, threads);
}

void pool_update_cpu(uintptr_t arena, uintptr_t scores, uintptr_t images, uintptr_t values, uintptr_t places,
                     uintptr_t entered, const std::array<int64_t, 6>& s, float margin, int threads) {
  const PoolSize size = {s[0], s[1], s[2], s[3], s[4], s[5]};
  const auto* place = at<int64_t>(places);
  for (int64_t m = 0; m < size.count; ++m) {
    const int64_t entry = place[2 * m], offset = place[2 * m + 1];
    if (entry < 0 || entry >= size.entries || offset < 0 || offset > size.bytes - 3 * size.height * size.width)
      throw std::invalid_argument("candidate " + std::to_string(m) + " has no place in the pool");
  }
  cpu_tables().pool_update(at<uint8_t>(arena), at<float>(scores), at<float>(images), at<float>(values), place,
                           at<bool>(entered), size, margin, threads);
}

void nss_features_cpu(const std::string& dtype, uintptr_t images, uintptr_t features,
                      const std::array<int64_t, 11>& sizes, const std::array<uintptr_t, 6>& taps,
                      const std::array<double, 6>& form, const std::array<int, 5>& flags,
                      const std::array<uintptr_t, 4>& tables, int64_t shapes, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().nss_features(at<T>(images), at<double>(features), nss_size(sizes, taps), nss_form(form, flags),
                                  nss_shapes(tables, shapes), threads);
  });
}

// sizes: images, height, width, side. colours: mean, then deviation, of red, green and blue.
void clip_preprocess_cpu(const std::string& dtype, uintptr_t images, uintptr_t out, const std::array<int64_t, 4>& s,
                         const std::array<uintptr_t, 6>& taps, const std::array<double, 6>& c, int threads) {
  const ClipSize size = {
      s[0], s[1], s[2], s[3], taps_at(taps, 0), taps_at(taps, 3), {c[0], c[1], c[2]}, {c[3], c[4], c[5]}};
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().clip_preprocess(at<T>(images), at<T>(out), size, threads);
  });
}

void rain_residual_cpu(const std::string& dtype, uintptr_t clean, uintptr_t rainy, uintptr_t estimate, uintptr_t out,
                       int64_t count, int64_t pixels, int threads) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    cpu_kernels<T>().rain_residual(at<T>(clean), at<T>(rainy), at<T>(estimate), at<T>(out), count, pixels, threads);
  });
}

// tensors: those of candidate_images, then the layers. s: images, height, width.
void reward_candidate_cpu(const std::array<uintptr_t, 5>& tensors, const std::array<int64_t, 3>& s, bool grey_layer,
                          int threads) {
  cpu_tables().reward_candidate(candidate_images(tensors, grey_layer), at<double>(tensors[4]), {s[0], s[1], s[2]},
                                threads);
}

// Compiled CUDA architectures as numbers, the lowest first: {80, 90}. Empty without CUDA.
std::vector<int> cuda_architectures() { return {RGSUD_CUDA_BUILT}; }

}  // namespace
}  // namespace rgsud

PYBIND11_MODULE(_C, m) {
  using namespace rgsud;
  const auto unlocked = py::call_guard<py::gil_scoped_release>();
  m.attr("build") = RGSUD_BUILD;
  m.def("cuda_architectures", &cuda_architectures);
  m.def("instruction_set", [] { return cpu_tables().instruction_set; });
  m.def("high_pass_cpu", &high_pass_cpu, unlocked);
  m.def("ssim_cpu", &ssim_cpu, unlocked);
  m.def("derain_loss_forward_cpu", &derain_loss_forward_cpu, unlocked);
  m.def("derain_loss_backward_cpu", &derain_loss_backward_cpu, unlocked);
  m.def("layernorm2d_forward_cpu", &layernorm2d_forward_cpu, unlocked);
  m.def("layernorm2d_backward_cpu", &layernorm2d_backward_cpu, unlocked);
  m.def("conv_bias_lrelu_forward_cpu", &conv_bias_lrelu_forward_cpu, unlocked);
  m.def("conv_bias_lrelu_backward_cpu", &conv_bias_lrelu_backward_cpu, unlocked);
  m.def("instance_norm_lrelu_forward_cpu", &instance_norm_lrelu_forward_cpu, unlocked);
  m.def("instance_norm_lrelu_backward_cpu", &instance_norm_lrelu_backward_cpu, unlocked);
  m.def("nafblock_forward_cpu", &nafblock_forward_cpu, unlocked);
  m.def("nafblock_backward_cpu", &nafblock_backward_cpu, unlocked);
  m.def("gated_dconv_forward_cpu", &gated_dconv_forward_cpu, unlocked);
  m.def("gated_dconv_backward_cpu", &gated_dconv_backward_cpu, unlocked);
  m.def("take_crops_cpu", &take_crops_cpu, unlocked);
  m.def("pool_update_cpu", &pool_update_cpu, unlocked);
  m.def("nss_features_cpu", &nss_features_cpu, unlocked);
  m.def("clip_preprocess_cpu", &clip_preprocess_cpu, unlocked);
  m.def("rain_residual_cpu", &rain_residual_cpu, unlocked);
  m.def("reward_candidate_cpu", &reward_candidate_cpu, unlocked);
#ifdef RGSUD_CUDA
  bind_cuda(m);
#endif
}
