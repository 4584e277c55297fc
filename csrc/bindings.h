// What both files of the Python module need: addresses to pointers, names to types, numbers to parameter structs.
#pragma once

#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "nss_features.h"
#include "reward_candidate.h"

namespace rgsud {

namespace py = pybind11;

void bind_cuda(py::module_& m);  // in bindings_cuda.cpp, where CUDA kernels are built

inline namespace RGSUD_ISA {

template <typename T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

// Calls run(T{}) with the element type of that name.
template <typename Run>
void with_dtype(const std::string& dtype, Run run) {
  if (dtype == "float32")
    run(float{});
  else if (dtype == "float64")
    run(double{});
  else
    throw std::invalid_argument("no kernel for dtype " + dtype);
}

inline Taps taps_at(const std::array<uintptr_t, 6>& t, int first) {
  return {at<int64_t>(t[first]), at<double>(t[first + 1]), static_cast<int64_t>(t[first + 2])};
}

// sizes: images, plane height and width; heights, widths, block heights and block widths at both scales. taps: the
// addresses of index and weights, and the count, down and across. form and flags: the fields of NssForm in order.
inline NssSize nss_size(const std::array<int64_t, 11>& s, const std::array<uintptr_t, 6>& t) {
  return {s[0], s[1], s[2], {s[3], s[4]}, {s[5], s[6]}, {s[7], s[8]}, {s[9], s[10]}, taps_at(t, 0), taps_at(t, 3)};
}

inline NssForm nss_form(const std::array<double, 6>& f, const std::array<int, 5>& is) {
  return {f[0], f[1], f[2], f[3], f[4], f[5], is[0] != 0, is[1] != 0, is[2] != 0, is[3] != 0, is[4] != 0};
}

inline Shapes nss_shapes(const std::array<uintptr_t, 4>& tables, int64_t count) {
  return {at<double>(tables[0]), at<double>(tables[1]), at<double>(tables[2]), at<double>(tables[3]), count};
}

// Addresses of rainy, derained, mirrored and the candidate.
template <size_t Count>
CandidateImages candidate_images(const std::array<uintptr_t, Count>& t, bool grey_layer) {
  return {at<float>(t[0]), at<float>(t[1]), at<float>(t[2]), at<float>(t[3]), grey_layer};
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
