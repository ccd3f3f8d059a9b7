// ArgKMin 10
typedef float T;         // computes
typedef int I;           // as wide as T
typedef unsigned int U;
typedef float4 V;        // 16 bytes
typedef float S;         // arguments
typedef float O;         // results
#define LOAD(p) T(*(p))
extern "C" __global__ void __launch_bounds__(128)
keops_kept(const S* a0, const S* a1, const T* __restrict__ param, T* __restrict__ kept, const long long* offsets, int rows) {
  const int blocks = (rows + 127) / 128;
  const int batch = blockIdx.x / blocks;
  const int row = (blockIdx.x - batch * blocks) * 128 + threadIdx.x;
  if (row >= rows) return;
  param += (size_t)batch * 0;
  kept += (size_t)batch * rows * 3;
  const S* const r0 = a0 + offsets[(size_t)batch * 2 + 0] + (size_t)row * 3;
  for (int c = 0; c < 3; c++) kept[(size_t)(0 + c) * rows + row] = LOAD(r0 + c);
}
extern "C" __global__ void __launch_bounds__(128)
keops_reduced(const S* a0, const S* a1, const T* __restrict__ param, T* __restrict__ reduced, const long long* offsets, int rows) {
  const int blocks = (rows + 127) / 128;
  const int batch = blockIdx.x / blocks;
  const int row = (blockIdx.x - batch * blocks) * 128 + threadIdx.x;
  if (row >= rows) return;
  param += (size_t)batch * 0;
  reduced += (size_t)batch * rows * 4;
  const S* const r1 = a1 + offsets[(size_t)batch * 2 + 1] + (size_t)row * 3;
  for (int c = 0; c < 3; c++) reduced[(size_t)row * 4 + 0 + c] = LOAD(r1 + c);
  reduced[(size_t)row * 4 + 3] = T(0);
}
extern "C" __global__ void __launch_bounds__(128, 1)
keops_reduce(const T* __restrict__ param, const T* __restrict__ kept,
             const T* __restrict__ reduced, char* __restrict__ workspace,
             O* __restrict__ values, long long* __restrict__ indices,
             const int4* __restrict__ tiles, const int2* __restrict__ ranges,
             int tiles_per_batch, int rows, int columns) {
  const int batch = blockIdx.x / tiles_per_batch;
  const int4 tile = tiles[blockIdx.x - batch * tiles_per_batch];
  param += (size_t)batch * 0;
  kept += (size_t)batch * rows * 3;
  reduced += (size_t)batch * columns * 4;
  const int first = tile.x + threadIdx.x;
  const int row_0 = min(first + 0, tile.y - 1);
  const int row_1 = min(first + 128, tile.y - 1);
  const int row_2 = min(first + 256, tile.y - 1);
  const int row_3 = min(first + 384, tile.y - 1);
  T best_0[10];
  T best_1[10];
  T best_2[10];
  T best_3[10];
  int at_0[10];
  int at_1[10];
  int at_2[10];
  int at_3[10];
  #pragma unroll
  for (int e = 0; e < 10; e++) {
    best_0[e] = KEOPS_INFINITY;
    best_1[e] = KEOPS_INFINITY;
    best_2[e] = KEOPS_INFINITY;
    best_3[e] = KEOPS_INFINITY;
  }
  #pragma unroll
  for (int e = 0; e < 10; e++) {
    at_0[e] = -1;
    at_1[e] = -1;
    at_2[e] = -1;
    at_3[e] = -1;
  }
  T x_0[3];
  T x_1[3];
  T x_2[3];
  T x_3[3];
  #pragma unroll
  for (int e = 0; e < 3; e++) {
    x_0[e] = kept[(size_t)(e) * rows + row_0];
    x_1[e] = kept[(size_t)(e) * rows + row_1];
    x_2[e] = kept[(size_t)(e) * rows + row_2];
    x_3[e] = kept[(size_t)(e) * rows + row_3];
  }
  __shared__ __align__(16) T stage[1024];
  for (int q = tile.z; q < tile.w; q++) {
    const int2 range = ranges[q];
    for (int base = range.x; base < range.y; base += 256) {
      const int count = min(256, range.y - base);
      __syncthreads();
      const V* const from = (const V*)(reduced + (size_t)base * 4);
      for (int k = threadIdx.x; k < count * 1; k += 128) ((V*)stage)[k] = from[k];
      __syncthreads();
      int k = 0;
      #pragma unroll 1
      for (; k + 8 <= count; k += 8) {
        const T* const yc0 = stage + k * 4;
        const T* const yc1 = stage + (k + 1) * 4;
        const T* const yc2 = stage + (k + 2) * 4;
        const T* const yc3 = stage + (k + 3) * 4;
        const T* const yc4 = stage + (k + 4) * 4;
        const T* const yc5 = stage + (k + 5) * 4;
        const T* const yc6 = stage + (k + 6) * 4;
        const T* const yc7 = stage + (k + 7) * 4;
        const T v0_0 = x_0[0];
        const T v0_1 = x_1[0];
        const T v0_2 = x_2[0];
        const T v0_3 = x_3[0];
        const T v1c0 = yc0[0];
        const T v1c1 = yc1[0];
        const T v1c2 = yc2[0];
        const T v1c3 = yc3[0];
        const T v1c4 = yc4[0];
        const T v1c5 = yc5[0];
        const T v1c6 = yc6[0];
        const T v1c7 = yc7[0];
        const T v2_0c0 = v0_0 - v1c0;
        const T v2_0c1 = v0_0 - v1c1;
        const T v2_0c2 = v0_0 - v1c2;
        const T v2_0c3 = v0_0 - v1c3;
        const T v2_0c4 = v0_0 - v1c4;
        const T v2_0c5 = v0_0 - v1c5;
        const T v2_0c6 = v0_0 - v1c6;
        const T v2_0c7 = v0_0 - v1c7;
        const T v2_1c0 = v0_1 - v1c0;
        const T v2_1c1 = v0_1 - v1c1;
        const T v2_1c2 = v0_1 - v1c2;
        const T v2_1c3 = v0_1 - v1c3;
        const T v2_1c4 = v0_1 - v1c4;
        const T v2_1c5 = v0_1 - v1c5;
        const T v2_1c6 = v0_1 - v1c6;
        const T v2_1c7 = v0_1 - v1c7;
        const T v2_2c0 = v0_2 - v1c0;
        const T v2_2c1 = v0_2 - v1c1;
        const T v2_2c2 = v0_2 - v1c2;
        const T v2_2c3 = v0_2 - v1c3;
        const T v2_2c4 = v0_2 - v1c4;
        const T v2_2c5 = v0_2 - v1c5;
        const T v2_2c6 = v0_2 - v1c6;
        const T v2_2c7 = v0_2 - v1c7;
        const T v2_3c0 = v0_3 - v1c0;
        const T v2_3c1 = v0_3 - v1c1;
        const T v2_3c2 = v0_3 - v1c2;
        const T v2_3c3 = v0_3 - v1c3;
        const T v2_3c4 = v0_3 - v1c4;
        const T v2_3c5 = v0_3 - v1c5;
        const T v2_3c6 = v0_3 - v1c6;
        const T v2_3c7 = v0_3 - v1c7;
        const T v3_0 = x_0[1];
        const T v3_1 = x_1[1];
        const T v3_2 = x_2[1];
        const T v3_3 = x_3[1];
        const T v4c0 = yc0[1];
        const T v4c1 = yc1[1];
        const T v4c2 = yc2[1];
        const T v4c3 = yc3[1];
        const T v4c4 = yc4[1];
        const T v4c5 = yc5[1];
        const T v4c6 = yc6[1];
        const T v4c7 = yc7[1];
        const T v5_0c0 = v3_0 - v4c0;
        const T v5_0c1 = v3_0 - v4c1;
        const T v5_0c2 = v3_0 - v4c2;
        const T v5_0c3 = v3_0 - v4c3;
        const T v5_0c4 = v3_0 - v4c4;
        const T v5_0c5 = v3_0 - v4c5;
        const T v5_0c6 = v3_0 - v4c6;
        const T v5_0c7 = v3_0 - v4c7;
        const T v5_1c0 = v3_1 - v4c0;
        const T v5_1c1 = v3_1 - v4c1;
        const T v5_1c2 = v3_1 - v4c2;
        const T v5_1c3 = v3_1 - v4c3;
        const T v5_1c4 = v3_1 - v4c4;
        const T v5_1c5 = v3_1 - v4c5;
        const T v5_1c6 = v3_1 - v4c6;
        const T v5_1c7 = v3_1 - v4c7;
        const T v5_2c0 = v3_2 - v4c0;
        const T v5_2c1 = v3_2 - v4c1;
        const T v5_2c2 = v3_2 - v4c2;
        const T v5_2c3 = v3_2 - v4c3;
        const T v5_2c4 = v3_2 - v4c4;
        const T v5_2c5 = v3_2 - v4c5;
        const T v5_2c6 = v3_2 - v4c6;
        const T v5_2c7 = v3_2 - v4c7;
        const T v5_3c0 = v3_3 - v4c0;
        const T v5_3c1 = v3_3 - v4c1;
        const T v5_3c2 = v3_3 - v4c2;
        const T v5_3c3 = v3_3 - v4c3;
        const T v5_3c4 = v3_3 - v4c4;
        const T v5_3c5 = v3_3 - v4c5;
        const T v5_3c6 = v3_3 - v4c6;
        const T v5_3c7 = v3_3 - v4c7;
        const T v6_0 = x_0[2];
        const T v6_1 = x_1[2];
        const T v6_2 = x_2[2];
        const T v6_3 = x_3[2];
        const T v7c0 = yc0[2];
        const T v7c1 = yc1[2];
        const T v7c2 = yc2[2];
        const T v7c3 = yc3[2];
        const T v7c4 = yc4[2];
        const T v7c5 = yc5[2];
        const T v7c6 = yc6[2];
        const T v7c7 = yc7[2];
        const T v8_0c0 = v6_0 - v7c0;
        const T v8_0c1 = v6_0 - v7c1;
        const T v8_0c2 = v6_0 - v7c2;
        const T v8_0c3 = v6_0 - v7c3;
        const T v8_0c4 = v6_0 - v7c4;
        const T v8_0c5 = v6_0 - v7c5;
        const T v8_0c6 = v6_0 - v7c6;
        const T v8_0c7 = v6_0 - v7c7;
        const T v8_1c0 = v6_1 - v7c0;
        const T v8_1c1 = v6_1 - v7c1;
        const T v8_1c2 = v6_1 - v7c2;
        const T v8_1c3 = v6_1 - v7c3;
        const T v8_1c4 = v6_1 - v7c4;
        const T v8_1c5 = v6_1 - v7c5;
        const T v8_1c6 = v6_1 - v7c6;
        const T v8_1c7 = v6_1 - v7c7;
        const T v8_2c0 = v6_2 - v7c0;
        const T v8_2c1 = v6_2 - v7c1;
        const T v8_2c2 = v6_2 - v7c2;
        const T v8_2c3 = v6_2 - v7c3;
        const T v8_2c4 = v6_2 - v7c4;
        const T v8_2c5 = v6_2 - v7c5;
        const T v8_2c6 = v6_2 - v7c6;
        const T v8_2c7 = v6_2 - v7c7;
        const T v8_3c0 = v6_3 - v7c0;
        const T v8_3c1 = v6_3 - v7c1;
        const T v8_3c2 = v6_3 - v7c2;
        const T v8_3c3 = v6_3 - v7c3;
        const T v8_3c4 = v6_3 - v7c4;
        const T v8_3c5 = v6_3 - v7c5;
        const T v8_3c6 = v6_3 - v7c6;
        const T v8_3c7 = v6_3 - v7c7;
        const T v9_0c0 = v2_0c0 * v2_0c0;
        const T v9_0c1 = v2_0c1 * v2_0c1;
        const T v9_0c2 = v2_0c2 * v2_0c2;
        const T v9_0c3 = v2_0c3 * v2_0c3;
        const T v9_0c4 = v2_0c4 * v2_0c4;
        const T v9_0c5 = v2_0c5 * v2_0c5;
        const T v9_0c6 = v2_0c6 * v2_0c6;
        const T v9_0c7 = v2_0c7 * v2_0c7;
        const T v9_1c0 = v2_1c0 * v2_1c0;
        const T v9_1c1 = v2_1c1 * v2_1c1;
        const T v9_1c2 = v2_1c2 * v2_1c2;
        const T v9_1c3 = v2_1c3 * v2_1c3;
        const T v9_1c4 = v2_1c4 * v2_1c4;
        const T v9_1c5 = v2_1c5 * v2_1c5;
        const T v9_1c6 = v2_1c6 * v2_1c6;
        const T v9_1c7 = v2_1c7 * v2_1c7;
        const T v9_2c0 = v2_2c0 * v2_2c0;
        const T v9_2c1 = v2_2c1 * v2_2c1;
        const T v9_2c2 = v2_2c2 * v2_2c2;
        const T v9_2c3 = v2_2c3 * v2_2c3;
        const T v9_2c4 = v2_2c4 * v2_2c4;
        const T v9_2c5 = v2_2c5 * v2_2c5;
        const T v9_2c6 = v2_2c6 * v2_2c6;
        const T v9_2c7 = v2_2c7 * v2_2c7;
        const T v9_3c0 = v2_3c0 * v2_3c0;
        const T v9_3c1 = v2_3c1 * v2_3c1;
        const T v9_3c2 = v2_3c2 * v2_3c2;
        const T v9_3c3 = v2_3c3 * v2_3c3;
        const T v9_3c4 = v2_3c4 * v2_3c4;
        const T v9_3c5 = v2_3c5 * v2_3c5;
        const T v9_3c6 = v2_3c6 * v2_3c6;
        const T v9_3c7 = v2_3c7 * v2_3c7;
        const T v10_0c0 = fma(v5_0c0, v5_0c0, v9_0c0);
        const T v10_0c1 = fma(v5_0c1, v5_0c1, v9_0c1);
        const T v10_0c2 = fma(v5_0c2, v5_0c2, v9_0c2);
        const T v10_0c3 = fma(v5_0c3, v5_0c3, v9_0c3);
        const T v10_0c4 = fma(v5_0c4, v5_0c4, v9_0c4);
        const T v10_0c5 = fma(v5_0c5, v5_0c5, v9_0c5);
        const T v10_0c6 = fma(v5_0c6, v5_0c6, v9_0c6);
        const T v10_0c7 = fma(v5_0c7, v5_0c7, v9_0c7);
        const T v10_1c0 = fma(v5_1c0, v5_1c0, v9_1c0);
        const T v10_1c1 = fma(v5_1c1, v5_1c1, v9_1c1);
        const T v10_1c2 = fma(v5_1c2, v5_1c2, v9_1c2);
        const T v10_1c3 = fma(v5_1c3, v5_1c3, v9_1c3);
        const T v10_1c4 = fma(v5_1c4, v5_1c4, v9_1c4);
        const T v10_1c5 = fma(v5_1c5, v5_1c5, v9_1c5);
        const T v10_1c6 = fma(v5_1c6, v5_1c6, v9_1c6);
        const T v10_1c7 = fma(v5_1c7, v5_1c7, v9_1c7);
        const T v10_2c0 = fma(v5_2c0, v5_2c0, v9_2c0);
        const T v10_2c1 = fma(v5_2c1, v5_2c1, v9_2c1);
        const T v10_2c2 = fma(v5_2c2, v5_2c2, v9_2c2);
        const T v10_2c3 = fma(v5_2c3, v5_2c3, v9_2c3);
        const T v10_2c4 = fma(v5_2c4, v5_2c4, v9_2c4);
        const T v10_2c5 = fma(v5_2c5, v5_2c5, v9_2c5);
        const T v10_2c6 = fma(v5_2c6, v5_2c6, v9_2c6);
        const T v10_2c7 = fma(v5_2c7, v5_2c7, v9_2c7);
        const T v10_3c0 = fma(v5_3c0, v5_3c0, v9_3c0);
        const T v10_3c1 = fma(v5_3c1, v5_3c1, v9_3c1);
        const T v10_3c2 = fma(v5_3c2, v5_3c2, v9_3c2);
        const T v10_3c3 = fma(v5_3c3, v5_3c3, v9_3c3);
        const T v10_3c4 = fma(v5_3c4, v5_3c4, v9_3c4);
        const T v10_3c5 = fma(v5_3c5, v5_3c5, v9_3c5);
        const T v10_3c6 = fma(v5_3c6, v5_3c6, v9_3c6);
        const T v10_3c7 = fma(v5_3c7, v5_3c7, v9_3c7);
        const T v11_0c0 = fma(v8_0c0, v8_0c0, v10_0c0);
        const T v11_0c1 = fma(v8_0c1, v8_0c1, v10_0c1);
        const T v11_0c2 = fma(v8_0c2, v8_0c2, v10_0c2);
        const T v11_0c3 = fma(v8_0c3, v8_0c3, v10_0c3);
        const T v11_0c4 = fma(v8_0c4, v8_0c4, v10_0c4);
        const T v11_0c5 = fma(v8_0c5, v8_0c5, v10_0c5);
        const T v11_0c6 = fma(v8_0c6, v8_0c6, v10_0c6);
        const T v11_0c7 = fma(v8_0c7, v8_0c7, v10_0c7);
        const T v11_1c0 = fma(v8_1c0, v8_1c0, v10_1c0);
        const T v11_1c1 = fma(v8_1c1, v8_1c1, v10_1c1);
        const T v11_1c2 = fma(v8_1c2, v8_1c2, v10_1c2);
        const T v11_1c3 = fma(v8_1c3, v8_1c3, v10_1c3);
        const T v11_1c4 = fma(v8_1c4, v8_1c4, v10_1c4);
        const T v11_1c5 = fma(v8_1c5, v8_1c5, v10_1c5);
        const T v11_1c6 = fma(v8_1c6, v8_1c6, v10_1c6);
        const T v11_1c7 = fma(v8_1c7, v8_1c7, v10_1c7);
        const T v11_2c0 = fma(v8_2c0, v8_2c0, v10_2c0);
        const T v11_2c1 = fma(v8_2c1, v8_2c1, v10_2c1);
        const T v11_2c2 = fma(v8_2c2, v8_2c2, v10_2c2);
        const T v11_2c3 = fma(v8_2c3, v8_2c3, v10_2c3);
        const T v11_2c4 = fma(v8_2c4, v8_2c4, v10_2c4);
        const T v11_2c5 = fma(v8_2c5, v8_2c5, v10_2c5);
        const T v11_2c6 = fma(v8_2c6, v8_2c6, v10_2c6);
        const T v11_2c7 = fma(v8_2c7, v8_2c7, v10_2c7);
        const T v11_3c0 = fma(v8_3c0, v8_3c0, v10_3c0);
        const T v11_3c1 = fma(v8_3c1, v8_3c1, v10_3c1);
        const T v11_3c2 = fma(v8_3c2, v8_3c2, v10_3c2);
        const T v11_3c3 = fma(v8_3c3, v8_3c3, v10_3c3);
        const T v11_3c4 = fma(v8_3c4, v8_3c4, v10_3c4);
        const T v11_3c5 = fma(v8_3c5, v8_3c5, v10_3c5);
        const T v11_3c6 = fma(v8_3c6, v8_3c6, v10_3c6);
        const T v11_3c7 = fma(v8_3c7, v8_3c7, v10_3c7);
        if (fmin(fmin(fmin(fmin(fmin(fmin(fmin(v11_0c0, v11_0c1), v11_0c2), v11_0c3), v11_0c4), v11_0c5), v11_0c6), v11_0c7) < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0)) {
          if (v11_0c0 < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0 && v11_0c0 == v11_0c0)) insert<10, true, true>(&best_0[(0) * 10 + 0], &at_0[(0) * 10 + 0], 1, v11_0c0, base + k + 0);
          if (v11_0c1 < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0 && v11_0c1 == v11_0c1)) insert<10, true, true>(&best_0[(0) * 10 + 0], &at_0[(0) * 10 + 0], 1, v11_0c1, base + k + 1);
          if (v11_0c2 < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0 && v11_0c2 == v11_0c2)) insert<10, true, true>(&best_0[(0) * 10 + 0], &at_0[(0) * 10 + 0], 1, v11_0c2, base + k + 2);
          if (v11_0c3 < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0 && v11_0c3 == v11_0c3)) insert<10, true, true>(&best_0[(0) * 10 + 0], &at_0[(0) * 10 + 0], 1, v11_0c3, base + k + 3);
          if (v11_0c4 < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0 && v11_0c4 == v11_0c4)) insert<10, true, true>(&best_0[(0) * 10 + 0], &at_0[(0) * 10 + 0], 1, v11_0c4, base + k + 4);
          if (v11_0c5 < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0 && v11_0c5 == v11_0c5)) insert<10, true, true>(&best_0[(0) * 10 + 0], &at_0[(0) * 10 + 0], 1, v11_0c5, base + k + 5);
          if (v11_0c6 < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0 && v11_0c6 == v11_0c6)) insert<10, true, true>(&best_0[(0) * 10 + 0], &at_0[(0) * 10 + 0], 1, v11_0c6, base + k + 6);
          if (v11_0c7 < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0 && v11_0c7 == v11_0c7)) insert<10, true, true>(&best_0[(0) * 10 + 0], &at_0[(0) * 10 + 0], 1, v11_0c7, base + k + 7);
        }
        if (fmin(fmin(fmin(fmin(fmin(fmin(fmin(v11_1c0, v11_1c1), v11_1c2), v11_1c3), v11_1c4), v11_1c5), v11_1c6), v11_1c7) < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0)) {
          if (v11_1c0 < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0 && v11_1c0 == v11_1c0)) insert<10, true, true>(&best_1[(0) * 10 + 0], &at_1[(0) * 10 + 0], 1, v11_1c0, base + k + 0);
          if (v11_1c1 < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0 && v11_1c1 == v11_1c1)) insert<10, true, true>(&best_1[(0) * 10 + 0], &at_1[(0) * 10 + 0], 1, v11_1c1, base + k + 1);
          if (v11_1c2 < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0 && v11_1c2 == v11_1c2)) insert<10, true, true>(&best_1[(0) * 10 + 0], &at_1[(0) * 10 + 0], 1, v11_1c2, base + k + 2);
          if (v11_1c3 < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0 && v11_1c3 == v11_1c3)) insert<10, true, true>(&best_1[(0) * 10 + 0], &at_1[(0) * 10 + 0], 1, v11_1c3, base + k + 3);
          if (v11_1c4 < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0 && v11_1c4 == v11_1c4)) insert<10, true, true>(&best_1[(0) * 10 + 0], &at_1[(0) * 10 + 0], 1, v11_1c4, base + k + 4);
          if (v11_1c5 < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0 && v11_1c5 == v11_1c5)) insert<10, true, true>(&best_1[(0) * 10 + 0], &at_1[(0) * 10 + 0], 1, v11_1c5, base + k + 5);
          if (v11_1c6 < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0 && v11_1c6 == v11_1c6)) insert<10, true, true>(&best_1[(0) * 10 + 0], &at_1[(0) * 10 + 0], 1, v11_1c6, base + k + 6);
          if (v11_1c7 < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0 && v11_1c7 == v11_1c7)) insert<10, true, true>(&best_1[(0) * 10 + 0], &at_1[(0) * 10 + 0], 1, v11_1c7, base + k + 7);
        }
        if (fmin(fmin(fmin(fmin(fmin(fmin(fmin(v11_2c0, v11_2c1), v11_2c2), v11_2c3), v11_2c4), v11_2c5), v11_2c6), v11_2c7) < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0)) {
          if (v11_2c0 < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0 && v11_2c0 == v11_2c0)) insert<10, true, true>(&best_2[(0) * 10 + 0], &at_2[(0) * 10 + 0], 1, v11_2c0, base + k + 0);
          if (v11_2c1 < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0 && v11_2c1 == v11_2c1)) insert<10, true, true>(&best_2[(0) * 10 + 0], &at_2[(0) * 10 + 0], 1, v11_2c1, base + k + 1);
          if (v11_2c2 < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0 && v11_2c2 == v11_2c2)) insert<10, true, true>(&best_2[(0) * 10 + 0], &at_2[(0) * 10 + 0], 1, v11_2c2, base + k + 2);
          if (v11_2c3 < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0 && v11_2c3 == v11_2c3)) insert<10, true, true>(&best_2[(0) * 10 + 0], &at_2[(0) * 10 + 0], 1, v11_2c3, base + k + 3);
          if (v11_2c4 < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0 && v11_2c4 == v11_2c4)) insert<10, true, true>(&best_2[(0) * 10 + 0], &at_2[(0) * 10 + 0], 1, v11_2c4, base + k + 4);
          if (v11_2c5 < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0 && v11_2c5 == v11_2c5)) insert<10, true, true>(&best_2[(0) * 10 + 0], &at_2[(0) * 10 + 0], 1, v11_2c5, base + k + 5);
          if (v11_2c6 < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0 && v11_2c6 == v11_2c6)) insert<10, true, true>(&best_2[(0) * 10 + 0], &at_2[(0) * 10 + 0], 1, v11_2c6, base + k + 6);
          if (v11_2c7 < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0 && v11_2c7 == v11_2c7)) insert<10, true, true>(&best_2[(0) * 10 + 0], &at_2[(0) * 10 + 0], 1, v11_2c7, base + k + 7);
        }
        if (fmin(fmin(fmin(fmin(fmin(fmin(fmin(v11_3c0, v11_3c1), v11_3c2), v11_3c3), v11_3c4), v11_3c5), v11_3c6), v11_3c7) < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0)) {
          if (v11_3c0 < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0 && v11_3c0 == v11_3c0)) insert<10, true, true>(&best_3[(0) * 10 + 0], &at_3[(0) * 10 + 0], 1, v11_3c0, base + k + 0);
          if (v11_3c1 < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0 && v11_3c1 == v11_3c1)) insert<10, true, true>(&best_3[(0) * 10 + 0], &at_3[(0) * 10 + 0], 1, v11_3c1, base + k + 1);
          if (v11_3c2 < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0 && v11_3c2 == v11_3c2)) insert<10, true, true>(&best_3[(0) * 10 + 0], &at_3[(0) * 10 + 0], 1, v11_3c2, base + k + 2);
          if (v11_3c3 < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0 && v11_3c3 == v11_3c3)) insert<10, true, true>(&best_3[(0) * 10 + 0], &at_3[(0) * 10 + 0], 1, v11_3c3, base + k + 3);
          if (v11_3c4 < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0 && v11_3c4 == v11_3c4)) insert<10, true, true>(&best_3[(0) * 10 + 0], &at_3[(0) * 10 + 0], 1, v11_3c4, base + k + 4);
          if (v11_3c5 < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0 && v11_3c5 == v11_3c5)) insert<10, true, true>(&best_3[(0) * 10 + 0], &at_3[(0) * 10 + 0], 1, v11_3c5, base + k + 5);
          if (v11_3c6 < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0 && v11_3c6 == v11_3c6)) insert<10, true, true>(&best_3[(0) * 10 + 0], &at_3[(0) * 10 + 0], 1, v11_3c6, base + k + 6);
          if (v11_3c7 < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0 && v11_3c7 == v11_3c7)) insert<10, true, true>(&best_3[(0) * 10 + 0], &at_3[(0) * 10 + 0], 1, v11_3c7, base + k + 7);
        }
      }
      #pragma unroll 1
      for (; k < count; k++) {
        const T* const y = stage + k * 4;
        const T v0_0 = x_0[0];
        const T v0_1 = x_1[0];
        const T v0_2 = x_2[0];
        const T v0_3 = x_3[0];
        const T v1 = y[0];
        const T v2_0 = v0_0 - v1;
        const T v2_1 = v0_1 - v1;
        const T v2_2 = v0_2 - v1;
        const T v2_3 = v0_3 - v1;
        const T v3_0 = x_0[1];
        const T v3_1 = x_1[1];
        const T v3_2 = x_2[1];
        const T v3_3 = x_3[1];
        const T v4 = y[1];
        const T v5_0 = v3_0 - v4;
        const T v5_1 = v3_1 - v4;
        const T v5_2 = v3_2 - v4;
        const T v5_3 = v3_3 - v4;
        const T v6_0 = x_0[2];
        const T v6_1 = x_1[2];
        const T v6_2 = x_2[2];
        const T v6_3 = x_3[2];
        const T v7 = y[2];
        const T v8_0 = v6_0 - v7;
        const T v8_1 = v6_1 - v7;
        const T v8_2 = v6_2 - v7;
        const T v8_3 = v6_3 - v7;
        const T v9_0 = v2_0 * v2_0;
        const T v9_1 = v2_1 * v2_1;
        const T v9_2 = v2_2 * v2_2;
        const T v9_3 = v2_3 * v2_3;
        const T v10_0 = fma(v5_0, v5_0, v9_0);
        const T v10_1 = fma(v5_1, v5_1, v9_1);
        const T v10_2 = fma(v5_2, v5_2, v9_2);
        const T v10_3 = fma(v5_3, v5_3, v9_3);
        const T v11_0 = fma(v8_0, v8_0, v10_0);
        const T v11_1 = fma(v8_1, v8_1, v10_1);
        const T v11_2 = fma(v8_2, v8_2, v10_2);
        const T v11_3 = fma(v8_3, v8_3, v10_3);
        if (v11_0 < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0)) {
          if (v11_0 < best_0[(0) * 10 + 9] || (at_0[(0) * 10 + 9] < 0 && v11_0 == v11_0)) insert<10, true, true>(&best_0[(0) * 10 + 0], &at_0[(0) * 10 + 0], 1, v11_0, base + k + 0);
        }
        if (v11_1 < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0)) {
          if (v11_1 < best_1[(0) * 10 + 9] || (at_1[(0) * 10 + 9] < 0 && v11_1 == v11_1)) insert<10, true, true>(&best_1[(0) * 10 + 0], &at_1[(0) * 10 + 0], 1, v11_1, base + k + 0);
        }
        if (v11_2 < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0)) {
          if (v11_2 < best_2[(0) * 10 + 9] || (at_2[(0) * 10 + 9] < 0 && v11_2 == v11_2)) insert<10, true, true>(&best_2[(0) * 10 + 0], &at_2[(0) * 10 + 0], 1, v11_2, base + k + 0);
        }
        if (v11_3 < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0)) {
          if (v11_3 < best_3[(0) * 10 + 9] || (at_3[(0) * 10 + 9] < 0 && v11_3 == v11_3)) insert<10, true, true>(&best_3[(0) * 10 + 0], &at_3[(0) * 10 + 0], 1, v11_3, base + k + 0);
        }
      }
    }
  }
  if (first + 0 < tile.y) {
    #pragma unroll
    for (int e = 0; e < 10; e++) {
      indices[((size_t)batch * rows + row_0) * 10 + e] = at_0[e];
    }
  }
  if (first + 128 < tile.y) {
    #pragma unroll
    for (int e = 0; e < 10; e++) {
      indices[((size_t)batch * rows + row_1) * 10 + e] = at_1[e];
    }
  }
  if (first + 256 < tile.y) {
    #pragma unroll
    for (int e = 0; e < 10; e++) {
      indices[((size_t)batch * rows + row_2) * 10 + e] = at_2[e];
    }
  }
  if (first + 384 < tile.y) {
    #pragma unroll
    for (int e = 0; e < 10; e++) {
      indices[((size_t)batch * rows + row_3) * 10 + e] = at_3[e];
    }
  }
}
