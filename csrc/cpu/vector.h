// Loops over a row in whole vectors, by the vector types of GCC and Clang, for any processor.
#pragma once

#include <cstring>

#include "../common.h"

namespace rgsud {
inline namespace RGSUD_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
};

// V is a vector or a single number, at any address.
template <typename V, typename T>
inline V load(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof(V));
  return value;
}

template <typename V, typename T>
inline void store(T* to, V value) {
  std::memcpy(to, &value, sizeof(V));
}

// Keep a vector in its register: a compiler that reads it from memory again with every product waits for memory.
template <typename V>
inline V keep(V value) {
#if defined(__AVX512F__)
  asm("" : "+v"(value));
#elif defined(__AVX__)
  asm("" : "+x"(value));
#endif
  return value;
}

// Calls body(x, zero) for every x in [begin, end), zero a vector that stands for the elements from x on, or a single
// number in rows too short for one. The last vector overlaps the one before: the body must not read what it writes.
// A loop over taps inside `omp simd` does the same in prose, but GCC 12 makes it 4 times slower.
template <typename T, typename Body>
inline void each_vector(int64_t begin, int64_t end, const Body& body) {
  using V = typename VectorOf<T>::Type;
  constexpr int64_t lanes = kVectorBytes / sizeof(T);
  if (end - begin < lanes) {
    for (int64_t x = begin; x < end; ++x) body(x, T{});
    return;
  }
  for (int64_t x = begin; x + lanes < end; x += lanes) body(x, V{});
  body(end - lanes, V{});
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
