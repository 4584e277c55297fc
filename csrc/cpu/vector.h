// Loops over a row in whole vectors and sums across them, by the vector types of GCC and Clang, for any processor.
#pragma once

#include <cstring>
#include <utility>

#include "../common.h"

#ifdef __has_builtin
#if __has_builtin(__builtin_shufflevector)
#define RGSUD_SHUFFLE
#endif
#endif

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

// to = a - b
template <typename T>
void subtract(const T* __restrict a, const T* __restrict b, T* __restrict to, int64_t count) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) to[i] = a[i] - b[i];
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

// One level of the tree. Vectors a and b hold runs of Size lanes, each run to be summed; the result holds all the runs
// of a, then those of b, added to half as many lanes.
template <typename T, int Size, size_t... Lane>
typename VectorOf<T>::Type fold(typename VectorOf<T>::Type a, typename VectorOf<T>::Type b,
                                std::index_sequence<Lane...>) {
  constexpr int half = Size / 2;  // lane l of the result is from run l / half, that is, from lane l / half * Size + ...
#ifdef RGSUD_SHUFFLE
  return __builtin_shufflevector(a, b, (Lane / half * Size + Lane % half)...) +
         __builtin_shufflevector(a, b, (Lane / half * Size + Lane % half + half)...);
#else
  const auto lane = [&](size_t at) { return at < sizeof...(Lane) ? a[at] : b[at - sizeof...(Lane)]; };
  return typename VectorOf<T>::Type{
      (lane(Lane / half * Size + Lane % half) + lane(Lane / half * Size + Lane % half + half))...};
#endif
}

// Adds every one of Count vectors across; the sums lie one after another from value[0] on.
template <typename T, int Count, int Size = kVectorBytes / sizeof(T)>
void add_across(typename VectorOf<T>::Type* value) {
  if constexpr (Size > 1) {
    for (int i = 0; i < Count; i += 2) {
      const auto next = i + 1 < Count ? value[i + 1] : typename VectorOf<T>::Type{};
      value[i / 2] = fold<T, Size>(value[i], next, std::make_index_sequence<kVectorBytes / sizeof(T)>());
    }
    add_across<T, (Count + 1) / 2, Size / 2>(value);
  }
}

// The sum of a vector's elements, and of a vector in memory.
template <typename T>
T lane_sum(typename VectorOf<T>::Type value) {
  add_across<T, 1>(&value);
  return value[0];
}
template <typename T>
T lane_sum(const T* from) {
  return lane_sum<T>(load<typename VectorOf<T>::Type>(from));
}

}  // namespace RGSUD_ISA
}  // namespace rgsud
