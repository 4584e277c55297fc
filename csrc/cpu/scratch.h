// Memory for one kernel call.
#pragma once

#include <cstdlib>
#include <new>

#include "../common.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// Uninitialised. Not std::vector: its inline code would be shared between instruction sets (see RGSUD_ISA).
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : data_(static_cast<T*>(std::malloc((count > 0 ? count : 1) * sizeof(T)))) {
    if (!data_) throw std::bad_alloc();
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() { return data_; }

 private:
  T* data_;
};

}  // namespace RGSUD_ISA
}  // namespace rgsud
