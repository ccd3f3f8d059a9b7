// Runs CUDA kernels on the CPU, one block after the other: a thread of a block is a fiber that
// gives way at barriers. Test-only; it finds wrong values and wrong indices, not races.
#include <ucontext.h>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>
#define __global__ static
#define __device__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local
using std::size_t; using std::min; using std::abs; using std::exp; using std::log; using std::sin;
using std::cos; using std::tan; using std::asin; using std::acos; using std::atan; using std::atan2;
using std::pow; using std::sqrt; using std::floor; using std::rint; using std::trunc; using std::fma;
using std::fmin; using std::fmax; using std::ldexp; using std::logb; using std::ilogb; using std::sinh;
using std::cosh; using std::tanh; using std::log1p; using std::expm1; using std::exp2; using std::log2;
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) int2 { int x, y; };
struct Index { unsigned x, y, z; };
static thread_local Index threadIdx, blockIdx, blockDim, gridDim;

#define KEOPS_INFINITY std::numeric_limits<T>::infinity()
#define KEOPS_NAN std::numeric_limits<T>::quiet_NaN()
template <class A, class B> static A bits_of(B b) { A a; static_assert(sizeof a == sizeof b); memcpy(&a, &b, sizeof a); return a; }
static float exp2_fast(float x) { return exp2f(x); }
static float bf16_to_f32(unsigned short h) { return bits_of<float>((unsigned)h << 16); }
static float f16_to_f32(unsigned short h) {
  int e = h >> 10 & 31, m = h & 1023;
  float v = e == 0 ? ldexpf(m, -24) : e == 31 ? (m ? NAN : INFINITY) : ldexpf(m + 1024, e - 25);
  return h >> 15 ? -v : v;
}
template <class T> static T round_f16(T x) {
  if (x != x || x - x != T(0)) return x;
  int e;
  frexp(x, &e);
  T unit = ldexp(T(1), std::max(e, -13) - 11), r = rint(x / unit) * unit;
  return abs(r) > T(65504) ? copysign(std::numeric_limits<T>::infinity(), x) : r;
}
static int to_bits(float x) { return bits_of<int>(x); }
static long long to_bits(double x) { return bits_of<long long>(x); }
static float from_bits(int x) { return bits_of<float>(x); }
static double from_bits(long long x) { return bits_of<double>(x); }

struct Fiber { ucontext_t context; bool done; };
static thread_local std::vector<Fiber>* fibers;
static thread_local ucontext_t scheduler;
static thread_local const std::function<void()>* kernel;
static void __syncthreads() { swapcontext(&(*fibers)[threadIdx.x].context, &scheduler); }
static void enter() {
  (*kernel)();
  (*fibers)[threadIdx.x].done = true;
  swapcontext(&(*fibers)[threadIdx.x].context, &scheduler);
}
// False if some threads of a block wait at a barrier that others never reach.
static bool launch(unsigned blocks, const std::function<void()>& body) {
  const unsigned threads = 128;
  const size_t stack = 256 << 10;
  char* stacks = (char*)malloc(threads * stack);
  std::vector<Fiber> all(threads);
  fibers = &all;
  kernel = &body;
  gridDim = {blocks, 1, 1};
  blockDim = {threads, 1, 1};
  bool well = true;
  for (unsigned b = 0; b < blocks && well; b++) {
    blockIdx = {b, 0, 0};
    for (unsigned t = 0; t < threads; t++) {
      Fiber& f = all[t];
      f.done = false;
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = stacks + t * stack;
      f.context.uc_stack.ss_size = stack;
      f.context.uc_link = nullptr;
      makecontext(&f.context, enter, 0);
    }
    for (unsigned left = threads; left > 0 && well;) {
      const unsigned before = left;
      for (unsigned t = 0; t < threads; t++) {
        if (all[t].done) continue;
        threadIdx = {t, 0, 0};
        swapcontext(&scheduler, &all[t].context);
        left -= all[t].done;
      }
      // Threads may leave before a barrier only if one thread goes on alone (parameters).
      well = left == before || left == 0 || left == 1;
    }
  }
  free(stacks);
  return well;
}
