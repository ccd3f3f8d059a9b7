// What the hardware has and C++ does not say.
#define KEOPS_INFINITY T(__int_as_float(0x7f800000))
#define KEOPS_NAN T(__int_as_float(0x7fc00000))
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float f16_to_f32(unsigned short h) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(h));
  return y;
}
__device__ __forceinline__ float bf16_to_f32(unsigned short h) {
  return __uint_as_float((unsigned)h << 16);
}
__device__ __forceinline__ float round_f16(float x) {
  unsigned short h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
  return f16_to_f32(h);
}
__device__ __forceinline__ double round_f16(double x) {
  unsigned short h;
  asm("cvt.rn.f16.f64 %0, %1;" : "=h"(h) : "d"(x));
  return f16_to_f32(h);
}
__device__ __forceinline__ int to_bits(float x) { return __float_as_int(x); }
__device__ __forceinline__ long long to_bits(double x) { return __double_as_longlong(x); }
__device__ __forceinline__ float from_bits(int x) { return __int_as_float(x); }
__device__ __forceinline__ double from_bits(long long x) { return __longlong_as_double(x); }
