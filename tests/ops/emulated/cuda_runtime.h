// CUDA on a CPU, for tests: the threads of a block are fibers that take turns, and switch where the kernel
// synchronises; in the order of their numbers, or in one that a seed shuffles anew after every synchronisation, so that
// a missing one shows. Found in place of CUDA's own header. Blocks run one after another, so __shared__ memory is plain
// static memory, filled with NaN before each. It knows what the kernels here use and no more.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#define __global__ static
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

using cudaStream_t = void*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return ""; }

namespace emulated {

inline dim3 thread_index, block_index, block_size, grid_size;
inline std::vector<ucontext_t> fibers;
inline ucontext_t scheduler;
inline size_t running = 0;
inline std::vector<double> lanes;  // what each thread offers to its warp
inline const std::function<void()>* kernel = nullptr;
inline bool shuffled = false;
inline std::mt19937 chance;

inline void place(size_t thread) {
  running = thread;
  thread_index =
      dim3(thread % block_size.x, thread / block_size.x % block_size.y, thread / block_size.x / block_size.y);
}

inline void start() { (*kernel)(); }

// Every thread of the block runs up to its next synchronisation before any goes on.
inline void wait() { swapcontext(&fibers[running], &scheduler); }

inline void run_block() {
  constexpr size_t kStack = 1 << 18;
  const size_t threads = size_t(block_size.x) * block_size.y * block_size.z;
  static std::vector<char> stacks;
  stacks.resize(threads * kStack);
  fibers.assign(threads, {});
  lanes.assign(threads, NAN);
  std::vector<bool> done(threads, false);
  static std::vector<ucontext_t> ends;
  static std::vector<bool>* finished;
  finished = &done;
  for (size_t t = 0; t < threads; ++t) {
    getcontext(&fibers[t]);
    fibers[t].uc_stack.ss_sp = stacks.data() + t * kStack;
    fibers[t].uc_stack.ss_size = kStack;
    fibers[t].uc_link = &scheduler;
    makecontext(&fibers[t], static_cast<void (*)()>([] {
      start();
      (*finished)[running] = true;
    }),
                0);
  }
  std::vector<size_t> order(threads);
  std::iota(order.begin(), order.end(), 0);
  for (bool some = true; some;) {
    some = false;
    if (shuffled) std::shuffle(order.begin(), order.end(), chance);
    for (const size_t t : order) {
      if (done[t]) continue;
      place(t);
      swapcontext(&scheduler, &fibers[t]);
      some = some || !done[t];
    }
  }
}

inline void launch(dim3 grid, dim3 block, const std::function<void()>& body) {
  grid_size = grid, block_size = block, kernel = &body;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) block_index = dim3(x, y, z), run_block();
}

}  // namespace emulated

#define threadIdx emulated::thread_index
#define blockIdx emulated::block_index
#define blockDim emulated::block_size
#define gridDim emulated::grid_size

inline void __syncthreads() { emulated::wait(); }

// Threads place themselves anew after a wait: others have run meanwhile.
template <typename T>
T __shfl_down_sync(unsigned, T value, int away) {
  const size_t thread = emulated::running, lane = thread % 32;
  emulated::lanes[thread] = value;
  emulated::wait();
  const T other =
      lane + away < 32 && thread + away < emulated::lanes.size() ? T(emulated::lanes[thread + away]) : value;
  emulated::wait();
  return other;
}
