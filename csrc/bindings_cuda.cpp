// The part of the Python module that launches CUDA kernels; empty where none are built.
#ifdef RGSUD_CUDA
#include <cuda_bf16.h>
#include <pybind11/stl.h>

#include "bindings.h"
#include "cuda_launchers.h"

namespace rgsud {
namespace {

void high_pass_cuda_any(const std::string& dtype, uintptr_t in, uintptr_t out, int64_t planes, int64_t height,
                        int64_t width, int64_t last, bool adjoint, int64_t beside, uintptr_t stream) {
  const auto run = [&](auto zero) {
    using T = decltype(zero);
    high_pass_cuda<T>(at<T>(in), at<T>(out), {planes, height, width, last}, adjoint, beside, at<void>(stream));
  };
  if (dtype == "bfloat16")
    run(__nv_bfloat16{});
  else
    with_dtype(dtype, run);
}

void ssim_cuda_any(const std::string& dtype, uintptr_t x, uintptr_t y, uintptr_t value, uintptr_t v_x, uintptr_t v_y,
                   uintptr_t moments, uintptr_t partials, uintptr_t squares, int64_t planes, int64_t height,
                   int64_t width, int64_t last, uintptr_t stream) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    ssim_cuda<T>(at<T>(x), at<T>(y), at<T>(value), at<T>(v_x), at<T>(v_y), at<T>(moments), at<double>(partials),
                 at<double>(squares), {planes, height, width, last}, at<void>(stream));
  });
}

void nss_features_cuda_any(const std::string& dtype, uintptr_t images, const std::array<uintptr_t, 4>& scratch,
                           uintptr_t features, const std::array<int64_t, 11>& sizes,
                           const std::array<uintptr_t, 6>& taps, const std::array<double, 6>& form,
                           const std::array<int, 5>& flags, const std::array<uintptr_t, 4>& tables, int64_t shapes,
                           uintptr_t stream) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    nss_features_cuda<T>(at<T>(images), at<float>(scratch[0]), at<double>(scratch[1]), at<float>(scratch[2]),
                         at<Tails>(scratch[3]), at<double>(features), nss_size(sizes, taps), nss_form(form, flags),
                         nss_shapes(tables, shapes), at<void>(stream));
  });
}

void derain_loss_forward_cuda_any(const std::string& dtype, uintptr_t squares, int64_t tiles, uintptr_t values,
                                  uintptr_t mse, int64_t images, int64_t elements, uintptr_t stream) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    derain_loss_forward_cuda<T>(at<double>(squares), tiles, at<T>(values), at<double>(mse), images, elements,
                                at<void>(stream));
  });
}

void derain_loss_backward_cuda_any(const std::string& dtype, uintptr_t v_values, uintptr_t x, uintptr_t y,
                                   uintptr_t v_ssim, uintptr_t mse, uintptr_t v_x, int64_t images, int64_t elements,
                                   uintptr_t stream) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    derain_loss_backward_cuda<T>(at<T>(v_values), at<T>(x), at<T>(y), at<T>(v_ssim), at<double>(mse), at<T>(v_x),
                                 images, elements, at<void>(stream));
  });
}

// tensors: those of candidate_images, then the partial sums and the layers. s: images, height, width.
void reward_candidate_cuda_any(const std::array<uintptr_t, 6>& tensors, const std::array<int64_t, 3>& s,
                               bool grey_layer, uintptr_t stream) {
  reward_candidate_cuda(candidate_images(tensors, grey_layer), at<LayerSums>(tensors[4]), at<double>(tensors[5]),
                        {s[0], s[1], s[2]}, at<void>(stream));
}

}  // namespace

void bind_cuda(py::module_& m) {
  const auto unlocked = py::call_guard<py::gil_scoped_release>();
  m.def("high_pass_cuda", &high_pass_cuda_any, unlocked);
  m.def("ssim_cuda", &ssim_cuda_any, unlocked);
  m.def("nss_features_cuda", &nss_features_cuda_any, unlocked);
  m.def("nss_features_cuda_tails", [](const std::array<int64_t, 11>& sizes, const std::array<uintptr_t, 6>& taps) {
    return nss_features_cuda_tails(nss_size(sizes, taps));
  });
  m.def("derain_loss_forward_cuda", &derain_loss_forward_cuda_any, unlocked);
  m.def("derain_loss_backward_cuda", &derain_loss_backward_cuda_any, unlocked);
  m.def("reward_candidate_cuda", &reward_candidate_cuda_any, unlocked);
  m.def("reward_candidate_cuda_partials",
        [](const std::array<int64_t, 3>& s) { return reward_candidate_cuda_partials({s[0], s[1], s[2]}); });
  m.def("ssim_cuda_partials",
        [](int64_t planes, int64_t height, int64_t width) { return ssim_cuda_partials({planes, height, width}); });
}

}  // namespace rgsud
#endif
