// Chooses the table of CPU kernels for the processor at hand.
#include "kernels.h"

namespace rgsud {

namespace baseline {
extern const CpuTables tables;
}
#ifdef RGSUD_X86
namespace avx2 {
extern const CpuTables tables;
}
namespace avx512 {
extern const CpuTables tables;
}
#endif

const CpuTables& cpu_tables() {
#ifdef RGSUD_X86
  static const CpuTables& best = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                                         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")
                                     ? avx512::tables
                                 : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? avx2::tables
                                                                                                   : baseline::tables;
  return best;
#else
  return baseline::tables;
#endif
}

template <>
const CpuKernels<float>& cpu_kernels<float>() {
  return cpu_tables().float32;
}

template <>
const CpuKernels<double>& cpu_kernels<double>() {
  return cpu_tables().float64;
}

}  // namespace rgsud
