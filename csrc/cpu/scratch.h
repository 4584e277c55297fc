// What every CPU kernel call needs: memory, and a number of threads that pays.
#pragma once

#include <cstdlib>
#include <new>

#include "../common.h"

namespace rgsud {
inline namespace RGSUD_ISA {

// A second thread pays from about 20 us of work on; below that, waking and awaiting it takes longer than it saves, and
// very much longer where the cores are busy.
inline int useful_threads(int threads, int64_t pixels) {
  constexpr int64_t grain = 8192;
  const int64_t most = pixels / grain + 1;
  return most < threads ? static_cast<int>(most) : threads;
}

// Uninitialised, at a multiple of 64 bytes. Not std::vector: its inline code would be shared between instruction sets
// (see RGSUD_ISA).
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : data_(static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 64) / 64 * 64))) {
    if (!data_) throw std::bad_alloc();
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  T* data() const { return data_; }

 private:
  T* data_;
};

}  // namespace RGSUD_ISA
}  // namespace rgsud
