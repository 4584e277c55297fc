// Chooses the table of CPU kernels for the processor at hand; RGSUD_INSTRUCTION_SET names another.
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "table.h"

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

namespace {

// What this processor can run, the fastest first.
std::vector<const CpuTables*> usable() {
  std::vector<const CpuTables*> tables;
#ifdef RGSUD_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw"))
    tables.push_back(&avx512::tables);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) tables.push_back(&avx2::tables);
#endif
  tables.push_back(&baseline::tables);
  return tables;
}

const CpuTables& chosen() {
  const char* variable = std::getenv("RGSUD_INSTRUCTION_SET");
  const std::string asked = variable ? variable : "";
  std::string names;
  for (const CpuTables* tables : usable()) {
    if (asked.empty() || asked == tables->instruction_set) return *tables;
    names += (names.empty() ? "" : ", ") + std::string(tables->instruction_set);
  }
  throw std::invalid_argument("RGSUD_INSTRUCTION_SET is " + asked + ", and this processor runs " + names);
}

}  // namespace

const CpuTables& cpu_tables() {
  static const CpuTables& tables = chosen();
  return tables;
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
