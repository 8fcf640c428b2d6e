// SPDX-License-Identifier: MIT
#include "random_numbers.cuh"
#include "replay.cuh"

// Only a yardstick: the library itself uses no other. Where the toolkit lacks cuBLAS, or KVEVICT_NO_CUBLAS says that
// it cannot be linked, there is none.
#if __has_include(<cublas_v2.h>) && !defined(KVEVICT_NO_CUBLAS)
#include <cublas_v2.h>
#define KVEVICT_CUBLAS 1
#else
#define KVEVICT_CUBLAS 0
#endif

namespace measured {

#if KVEVICT_CUBLAS
namespace {

void require_blas(cublasStatus_t s, const char* what) {
  if (s == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "cuBLAS, %s: %s\n", what, cublasGetStatusString(s));
  std::exit(1);
}

}  // namespace

double measure_gemm() {
  constexpr int n = 8192;
  const device::array<kvevict::bfloat16> a(std::size_t{n} * n), b(a.size()), c(a.size());
  make_normal(a, 1);
  make_normal(b, 2);
  const device::array<char> scratch(std::size_t{64} << 20);
  cublasHandle_t handle{};
  require_blas(cublasCreate(&handle), "create");
  require_blas(cublasSetWorkspace(handle, scratch.data(), scratch.size()), "workspace");
  const float one = 1, zero = 0;
  const double seconds = replay(1, [&](std::size_t, cudaStream_t stream) {
                           require_blas(cublasSetStream(handle, stream), "stream");
                           require_blas(cublasSetWorkspace(handle, scratch.data(), scratch.size()), "workspace");
                           require_blas(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, n, n, n, &one, a.data(),
                                                     CUDA_R_16BF, n, b.data(), CUDA_R_16BF, n, &zero, c.data(),
                                                     CUDA_R_16BF, n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                                        "product");
                         }).median_seconds;
  require_blas(cublasDestroy(handle), "destroy");
  return 2.0 * n * n * n / seconds;
}
#else
double measure_gemm() { return 0; }
#endif

}  // namespace measured
