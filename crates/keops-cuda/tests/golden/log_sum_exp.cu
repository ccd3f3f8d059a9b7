// log-sum-exp, scale 1
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
  T sum_0[1];
  T sum_1[1];
  T sum_2[1];
  T sum_3[1];
  T total_0[1];
  T total_1[1];
  T total_2[1];
  T total_3[1];
  T lost_0[1];
  T lost_1[1];
  T lost_2[1];
  T lost_3[1];
  sum_0[0] = T(0);
  sum_1[0] = T(0);
  sum_2[0] = T(0);
  sum_3[0] = T(0);
  total_0[0] = T(0);
  total_1[0] = T(0);
  total_2[0] = T(0);
  total_3[0] = T(0);
  lost_0[0] = T(0);
  lost_1[0] = T(0);
  lost_2[0] = T(0);
  lost_3[0] = T(0);
  T pivot_0 = -3.4028235e38f;
  T pivot_1 = -3.4028235e38f;
  T pivot_2 = -3.4028235e38f;
  T pivot_3 = -3.4028235e38f;
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
      sum_0[0] = T(0);
      sum_1[0] = T(0);
      sum_2[0] = T(0);
      sum_3[0] = T(0);
      const T first_pivot_0 = pivot_0;
      const T first_pivot_1 = pivot_1;
      const T first_pivot_2 = pivot_2;
      const T first_pivot_3 = pivot_3;
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
        T key_0c0, key_0c1, key_0c2, key_0c3, key_0c4, key_0c5, key_0c6, key_0c7;
        T key_1c0, key_1c1, key_1c2, key_1c3, key_1c4, key_1c5, key_1c6, key_1c7;
        T key_2c0, key_2c1, key_2c2, key_2c3, key_2c4, key_2c5, key_2c6, key_2c7;
        T key_3c0, key_3c1, key_3c2, key_3c3, key_3c4, key_3c5, key_3c6, key_3c7;
        {
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
          const T v12_0c0 = -v11_0c0;
          const T v12_0c1 = -v11_0c1;
          const T v12_0c2 = -v11_0c2;
          const T v12_0c3 = -v11_0c3;
          const T v12_0c4 = -v11_0c4;
          const T v12_0c5 = -v11_0c5;
          const T v12_0c6 = -v11_0c6;
          const T v12_0c7 = -v11_0c7;
          const T v12_1c0 = -v11_1c0;
          const T v12_1c1 = -v11_1c1;
          const T v12_1c2 = -v11_1c2;
          const T v12_1c3 = -v11_1c3;
          const T v12_1c4 = -v11_1c4;
          const T v12_1c5 = -v11_1c5;
          const T v12_1c6 = -v11_1c6;
          const T v12_1c7 = -v11_1c7;
          const T v12_2c0 = -v11_2c0;
          const T v12_2c1 = -v11_2c1;
          const T v12_2c2 = -v11_2c2;
          const T v12_2c3 = -v11_2c3;
          const T v12_2c4 = -v11_2c4;
          const T v12_2c5 = -v11_2c5;
          const T v12_2c6 = -v11_2c6;
          const T v12_2c7 = -v11_2c7;
          const T v12_3c0 = -v11_3c0;
          const T v12_3c1 = -v11_3c1;
          const T v12_3c2 = -v11_3c2;
          const T v12_3c3 = -v11_3c3;
          const T v12_3c4 = -v11_3c4;
          const T v12_3c5 = -v11_3c5;
          const T v12_3c6 = -v11_3c6;
          const T v12_3c7 = -v11_3c7;
          key_0c0 = v12_0c0;
          key_0c1 = v12_0c1;
          key_0c2 = v12_0c2;
          key_0c3 = v12_0c3;
          key_0c4 = v12_0c4;
          key_0c5 = v12_0c5;
          key_0c6 = v12_0c6;
          key_0c7 = v12_0c7;
          key_1c0 = v12_1c0;
          key_1c1 = v12_1c1;
          key_1c2 = v12_1c2;
          key_1c3 = v12_1c3;
          key_1c4 = v12_1c4;
          key_1c5 = v12_1c5;
          key_1c6 = v12_1c6;
          key_1c7 = v12_1c7;
          key_2c0 = v12_2c0;
          key_2c1 = v12_2c1;
          key_2c2 = v12_2c2;
          key_2c3 = v12_2c3;
          key_2c4 = v12_2c4;
          key_2c5 = v12_2c5;
          key_2c6 = v12_2c6;
          key_2c7 = v12_2c7;
          key_3c0 = v12_3c0;
          key_3c1 = v12_3c1;
          key_3c2 = v12_3c2;
          key_3c3 = v12_3c3;
          key_3c4 = v12_3c4;
          key_3c5 = v12_3c5;
          key_3c6 = v12_3c6;
          key_3c7 = v12_3c7;
        }
        const T old_0 = pivot_0;
        pivot_0 = fmax(pivot_0, key_0c0);
        pivot_0 = fmax(pivot_0, key_0c1);
        pivot_0 = fmax(pivot_0, key_0c2);
        pivot_0 = fmax(pivot_0, key_0c3);
        pivot_0 = fmax(pivot_0, key_0c4);
        pivot_0 = fmax(pivot_0, key_0c5);
        pivot_0 = fmax(pivot_0, key_0c6);
        pivot_0 = fmax(pivot_0, key_0c7);
        pivot_0 = fmin(pivot_0, 3.4028235e38f);
        const T old_1 = pivot_1;
        pivot_1 = fmax(pivot_1, key_1c0);
        pivot_1 = fmax(pivot_1, key_1c1);
        pivot_1 = fmax(pivot_1, key_1c2);
        pivot_1 = fmax(pivot_1, key_1c3);
        pivot_1 = fmax(pivot_1, key_1c4);
        pivot_1 = fmax(pivot_1, key_1c5);
        pivot_1 = fmax(pivot_1, key_1c6);
        pivot_1 = fmax(pivot_1, key_1c7);
        pivot_1 = fmin(pivot_1, 3.4028235e38f);
        const T old_2 = pivot_2;
        pivot_2 = fmax(pivot_2, key_2c0);
        pivot_2 = fmax(pivot_2, key_2c1);
        pivot_2 = fmax(pivot_2, key_2c2);
        pivot_2 = fmax(pivot_2, key_2c3);
        pivot_2 = fmax(pivot_2, key_2c4);
        pivot_2 = fmax(pivot_2, key_2c5);
        pivot_2 = fmax(pivot_2, key_2c6);
        pivot_2 = fmax(pivot_2, key_2c7);
        pivot_2 = fmin(pivot_2, 3.4028235e38f);
        const T old_3 = pivot_3;
        pivot_3 = fmax(pivot_3, key_3c0);
        pivot_3 = fmax(pivot_3, key_3c1);
        pivot_3 = fmax(pivot_3, key_3c2);
        pivot_3 = fmax(pivot_3, key_3c3);
        pivot_3 = fmax(pivot_3, key_3c4);
        pivot_3 = fmax(pivot_3, key_3c5);
        pivot_3 = fmax(pivot_3, key_3c6);
        pivot_3 = fmax(pivot_3, key_3c7);
        pivot_3 = fmin(pivot_3, 3.4028235e38f);
        if (pivot_0 != old_0) {
          {
            const T v0_0 = pivot_0;
            const T v1_0 = old_0;
            const T v2_0 = v1_0 - v0_0;
            const T v3_0 = exp(v2_0);
            const T v4_0 = sum_0[0];
            const T v5_0 = v4_0 * v3_0;
            sum_0[0] = v5_0;
          }
        }
        if (pivot_1 != old_1) {
          {
            const T v0_1 = pivot_1;
            const T v1_1 = old_1;
            const T v2_1 = v1_1 - v0_1;
            const T v3_1 = exp(v2_1);
            const T v4_1 = sum_1[0];
            const T v5_1 = v4_1 * v3_1;
            sum_1[0] = v5_1;
          }
        }
        if (pivot_2 != old_2) {
          {
            const T v0_2 = pivot_2;
            const T v1_2 = old_2;
            const T v2_2 = v1_2 - v0_2;
            const T v3_2 = exp(v2_2);
            const T v4_2 = sum_2[0];
            const T v5_2 = v4_2 * v3_2;
            sum_2[0] = v5_2;
          }
        }
        if (pivot_3 != old_3) {
          {
            const T v0_3 = pivot_3;
            const T v1_3 = old_3;
            const T v2_3 = v1_3 - v0_3;
            const T v3_3 = exp(v2_3);
            const T v4_3 = sum_3[0];
            const T v5_3 = v4_3 * v3_3;
            sum_3[0] = v5_3;
          }
        }
        const T v0_0c0 = key_0c0;
        const T v0_0c1 = key_0c1;
        const T v0_0c2 = key_0c2;
        const T v0_0c3 = key_0c3;
        const T v0_0c4 = key_0c4;
        const T v0_0c5 = key_0c5;
        const T v0_0c6 = key_0c6;
        const T v0_0c7 = key_0c7;
        const T v0_1c0 = key_1c0;
        const T v0_1c1 = key_1c1;
        const T v0_1c2 = key_1c2;
        const T v0_1c3 = key_1c3;
        const T v0_1c4 = key_1c4;
        const T v0_1c5 = key_1c5;
        const T v0_1c6 = key_1c6;
        const T v0_1c7 = key_1c7;
        const T v0_2c0 = key_2c0;
        const T v0_2c1 = key_2c1;
        const T v0_2c2 = key_2c2;
        const T v0_2c3 = key_2c3;
        const T v0_2c4 = key_2c4;
        const T v0_2c5 = key_2c5;
        const T v0_2c6 = key_2c6;
        const T v0_2c7 = key_2c7;
        const T v0_3c0 = key_3c0;
        const T v0_3c1 = key_3c1;
        const T v0_3c2 = key_3c2;
        const T v0_3c3 = key_3c3;
        const T v0_3c4 = key_3c4;
        const T v0_3c5 = key_3c5;
        const T v0_3c6 = key_3c6;
        const T v0_3c7 = key_3c7;
        const T v1_0 = pivot_0;
        const T v1_1 = pivot_1;
        const T v1_2 = pivot_2;
        const T v1_3 = pivot_3;
        const T v2_0c0 = v0_0c0 - v1_0;
        const T v2_0c1 = v0_0c1 - v1_0;
        const T v2_0c2 = v0_0c2 - v1_0;
        const T v2_0c3 = v0_0c3 - v1_0;
        const T v2_0c4 = v0_0c4 - v1_0;
        const T v2_0c5 = v0_0c5 - v1_0;
        const T v2_0c6 = v0_0c6 - v1_0;
        const T v2_0c7 = v0_0c7 - v1_0;
        const T v2_1c0 = v0_1c0 - v1_1;
        const T v2_1c1 = v0_1c1 - v1_1;
        const T v2_1c2 = v0_1c2 - v1_1;
        const T v2_1c3 = v0_1c3 - v1_1;
        const T v2_1c4 = v0_1c4 - v1_1;
        const T v2_1c5 = v0_1c5 - v1_1;
        const T v2_1c6 = v0_1c6 - v1_1;
        const T v2_1c7 = v0_1c7 - v1_1;
        const T v2_2c0 = v0_2c0 - v1_2;
        const T v2_2c1 = v0_2c1 - v1_2;
        const T v2_2c2 = v0_2c2 - v1_2;
        const T v2_2c3 = v0_2c3 - v1_2;
        const T v2_2c4 = v0_2c4 - v1_2;
        const T v2_2c5 = v0_2c5 - v1_2;
        const T v2_2c6 = v0_2c6 - v1_2;
        const T v2_2c7 = v0_2c7 - v1_2;
        const T v2_3c0 = v0_3c0 - v1_3;
        const T v2_3c1 = v0_3c1 - v1_3;
        const T v2_3c2 = v0_3c2 - v1_3;
        const T v2_3c3 = v0_3c3 - v1_3;
        const T v2_3c4 = v0_3c4 - v1_3;
        const T v2_3c5 = v0_3c5 - v1_3;
        const T v2_3c6 = v0_3c6 - v1_3;
        const T v2_3c7 = v0_3c7 - v1_3;
        const T v3_0c0 = exp2_fast(v2_0c0 * 1.442695f);
        const T v3_0c1 = exp2_fast(v2_0c1 * 1.442695f);
        const T v3_0c2 = exp2_fast(v2_0c2 * 1.442695f);
        const T v3_0c3 = exp2_fast(v2_0c3 * 1.442695f);
        const T v3_0c4 = exp2_fast(v2_0c4 * 1.442695f);
        const T v3_0c5 = exp2_fast(v2_0c5 * 1.442695f);
        const T v3_0c6 = exp2_fast(v2_0c6 * 1.442695f);
        const T v3_0c7 = exp2_fast(v2_0c7 * 1.442695f);
        const T v3_1c0 = exp2_fast(v2_1c0 * 1.442695f);
        const T v3_1c1 = exp2_fast(v2_1c1 * 1.442695f);
        const T v3_1c2 = exp2_fast(v2_1c2 * 1.442695f);
        const T v3_1c3 = exp2_fast(v2_1c3 * 1.442695f);
        const T v3_1c4 = exp2_fast(v2_1c4 * 1.442695f);
        const T v3_1c5 = exp2_fast(v2_1c5 * 1.442695f);
        const T v3_1c6 = exp2_fast(v2_1c6 * 1.442695f);
        const T v3_1c7 = exp2_fast(v2_1c7 * 1.442695f);
        const T v3_2c0 = exp2_fast(v2_2c0 * 1.442695f);
        const T v3_2c1 = exp2_fast(v2_2c1 * 1.442695f);
        const T v3_2c2 = exp2_fast(v2_2c2 * 1.442695f);
        const T v3_2c3 = exp2_fast(v2_2c3 * 1.442695f);
        const T v3_2c4 = exp2_fast(v2_2c4 * 1.442695f);
        const T v3_2c5 = exp2_fast(v2_2c5 * 1.442695f);
        const T v3_2c6 = exp2_fast(v2_2c6 * 1.442695f);
        const T v3_2c7 = exp2_fast(v2_2c7 * 1.442695f);
        const T v3_3c0 = exp2_fast(v2_3c0 * 1.442695f);
        const T v3_3c1 = exp2_fast(v2_3c1 * 1.442695f);
        const T v3_3c2 = exp2_fast(v2_3c2 * 1.442695f);
        const T v3_3c3 = exp2_fast(v2_3c3 * 1.442695f);
        const T v3_3c4 = exp2_fast(v2_3c4 * 1.442695f);
        const T v3_3c5 = exp2_fast(v2_3c5 * 1.442695f);
        const T v3_3c6 = exp2_fast(v2_3c6 * 1.442695f);
        const T v3_3c7 = exp2_fast(v2_3c7 * 1.442695f);
        sum_0[0] += v3_0c0;
        sum_0[0] += v3_0c1;
        sum_0[0] += v3_0c2;
        sum_0[0] += v3_0c3;
        sum_0[0] += v3_0c4;
        sum_0[0] += v3_0c5;
        sum_0[0] += v3_0c6;
        sum_0[0] += v3_0c7;
        sum_1[0] += v3_1c0;
        sum_1[0] += v3_1c1;
        sum_1[0] += v3_1c2;
        sum_1[0] += v3_1c3;
        sum_1[0] += v3_1c4;
        sum_1[0] += v3_1c5;
        sum_1[0] += v3_1c6;
        sum_1[0] += v3_1c7;
        sum_2[0] += v3_2c0;
        sum_2[0] += v3_2c1;
        sum_2[0] += v3_2c2;
        sum_2[0] += v3_2c3;
        sum_2[0] += v3_2c4;
        sum_2[0] += v3_2c5;
        sum_2[0] += v3_2c6;
        sum_2[0] += v3_2c7;
        sum_3[0] += v3_3c0;
        sum_3[0] += v3_3c1;
        sum_3[0] += v3_3c2;
        sum_3[0] += v3_3c3;
        sum_3[0] += v3_3c4;
        sum_3[0] += v3_3c5;
        sum_3[0] += v3_3c6;
        sum_3[0] += v3_3c7;
      }
      #pragma unroll 1
      for (; k < count; k++) {
        const T* const y = stage + k * 4;
        T key_0;
        T key_1;
        T key_2;
        T key_3;
        {
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
          const T v12_0 = -v11_0;
          const T v12_1 = -v11_1;
          const T v12_2 = -v11_2;
          const T v12_3 = -v11_3;
          key_0 = v12_0;
          key_1 = v12_1;
          key_2 = v12_2;
          key_3 = v12_3;
        }
        const T old_0 = pivot_0;
        pivot_0 = fmax(pivot_0, key_0);
        pivot_0 = fmin(pivot_0, 3.4028235e38f);
        const T old_1 = pivot_1;
        pivot_1 = fmax(pivot_1, key_1);
        pivot_1 = fmin(pivot_1, 3.4028235e38f);
        const T old_2 = pivot_2;
        pivot_2 = fmax(pivot_2, key_2);
        pivot_2 = fmin(pivot_2, 3.4028235e38f);
        const T old_3 = pivot_3;
        pivot_3 = fmax(pivot_3, key_3);
        pivot_3 = fmin(pivot_3, 3.4028235e38f);
        if (pivot_0 != old_0) {
          {
            const T v0_0 = pivot_0;
            const T v1_0 = old_0;
            const T v2_0 = v1_0 - v0_0;
            const T v3_0 = exp(v2_0);
            const T v4_0 = sum_0[0];
            const T v5_0 = v4_0 * v3_0;
            sum_0[0] = v5_0;
          }
        }
        if (pivot_1 != old_1) {
          {
            const T v0_1 = pivot_1;
            const T v1_1 = old_1;
            const T v2_1 = v1_1 - v0_1;
            const T v3_1 = exp(v2_1);
            const T v4_1 = sum_1[0];
            const T v5_1 = v4_1 * v3_1;
            sum_1[0] = v5_1;
          }
        }
        if (pivot_2 != old_2) {
          {
            const T v0_2 = pivot_2;
            const T v1_2 = old_2;
            const T v2_2 = v1_2 - v0_2;
            const T v3_2 = exp(v2_2);
            const T v4_2 = sum_2[0];
            const T v5_2 = v4_2 * v3_2;
            sum_2[0] = v5_2;
          }
        }
        if (pivot_3 != old_3) {
          {
            const T v0_3 = pivot_3;
            const T v1_3 = old_3;
            const T v2_3 = v1_3 - v0_3;
            const T v3_3 = exp(v2_3);
            const T v4_3 = sum_3[0];
            const T v5_3 = v4_3 * v3_3;
            sum_3[0] = v5_3;
          }
        }
        const T v0_0 = key_0;
        const T v0_1 = key_1;
        const T v0_2 = key_2;
        const T v0_3 = key_3;
        const T v1_0 = pivot_0;
        const T v1_1 = pivot_1;
        const T v1_2 = pivot_2;
        const T v1_3 = pivot_3;
        const T v2_0 = v0_0 - v1_0;
        const T v2_1 = v0_1 - v1_1;
        const T v2_2 = v0_2 - v1_2;
        const T v2_3 = v0_3 - v1_3;
        const T v3_0 = exp2_fast(v2_0 * 1.442695f);
        const T v3_1 = exp2_fast(v2_1 * 1.442695f);
        const T v3_2 = exp2_fast(v2_2 * 1.442695f);
        const T v3_3 = exp2_fast(v2_3 * 1.442695f);
        sum_0[0] += v3_0;
        sum_1[0] += v3_1;
        sum_2[0] += v3_2;
        sum_3[0] += v3_3;
      }
      if (pivot_0 != first_pivot_0) {
        {
          const T v0_0 = pivot_0;
          const T v1_0 = first_pivot_0;
          const T v2_0 = v1_0 - v0_0;
          const T v3_0 = exp(v2_0);
          const T v4_0 = total_0[0];
          const T v5_0 = v4_0 * v3_0;
          total_0[0] = v5_0;
        }
        {
          const T v0_0 = pivot_0;
          const T v1_0 = first_pivot_0;
          const T v2_0 = v1_0 - v0_0;
          const T v3_0 = exp(v2_0);
          const T v4_0 = lost_0[0];
          const T v5_0 = v4_0 * v3_0;
          lost_0[0] = v5_0;
        }
      }
      if (pivot_1 != first_pivot_1) {
        {
          const T v0_1 = pivot_1;
          const T v1_1 = first_pivot_1;
          const T v2_1 = v1_1 - v0_1;
          const T v3_1 = exp(v2_1);
          const T v4_1 = total_1[0];
          const T v5_1 = v4_1 * v3_1;
          total_1[0] = v5_1;
        }
        {
          const T v0_1 = pivot_1;
          const T v1_1 = first_pivot_1;
          const T v2_1 = v1_1 - v0_1;
          const T v3_1 = exp(v2_1);
          const T v4_1 = lost_1[0];
          const T v5_1 = v4_1 * v3_1;
          lost_1[0] = v5_1;
        }
      }
      if (pivot_2 != first_pivot_2) {
        {
          const T v0_2 = pivot_2;
          const T v1_2 = first_pivot_2;
          const T v2_2 = v1_2 - v0_2;
          const T v3_2 = exp(v2_2);
          const T v4_2 = total_2[0];
          const T v5_2 = v4_2 * v3_2;
          total_2[0] = v5_2;
        }
        {
          const T v0_2 = pivot_2;
          const T v1_2 = first_pivot_2;
          const T v2_2 = v1_2 - v0_2;
          const T v3_2 = exp(v2_2);
          const T v4_2 = lost_2[0];
          const T v5_2 = v4_2 * v3_2;
          lost_2[0] = v5_2;
        }
      }
      if (pivot_3 != first_pivot_3) {
        {
          const T v0_3 = pivot_3;
          const T v1_3 = first_pivot_3;
          const T v2_3 = v1_3 - v0_3;
          const T v3_3 = exp(v2_3);
          const T v4_3 = total_3[0];
          const T v5_3 = v4_3 * v3_3;
          total_3[0] = v5_3;
        }
        {
          const T v0_3 = pivot_3;
          const T v1_3 = first_pivot_3;
          const T v2_3 = v1_3 - v0_3;
          const T v3_3 = exp(v2_3);
          const T v4_3 = lost_3[0];
          const T v5_3 = v4_3 * v3_3;
          lost_3[0] = v5_3;
        }
      }
      add_block(total_0[0], lost_0[0], sum_0[0]);
      add_block(total_1[0], lost_1[0], sum_1[0]);
      add_block(total_2[0], lost_2[0], sum_2[0]);
      add_block(total_3[0], lost_3[0], sum_3[0]);
    }
  }
  if (first + 0 < tile.y) {
    total_0[0] += lost_0[0];
    const T v0_0 = pivot_0;
    const T v1_0 = total_0[0];
    const T v2_0 = log(v1_0);
    const T v3_0 = v2_0 + v0_0;
    values[((size_t)batch * rows + row_0) * 1 + 0] = v3_0;
  }
  if (first + 128 < tile.y) {
    total_1[0] += lost_1[0];
    const T v0_1 = pivot_1;
    const T v1_1 = total_1[0];
    const T v2_1 = log(v1_1);
    const T v3_1 = v2_1 + v0_1;
    values[((size_t)batch * rows + row_1) * 1 + 0] = v3_1;
  }
  if (first + 256 < tile.y) {
    total_2[0] += lost_2[0];
    const T v0_2 = pivot_2;
    const T v1_2 = total_2[0];
    const T v2_2 = log(v1_2);
    const T v3_2 = v2_2 + v0_2;
    values[((size_t)batch * rows + row_2) * 1 + 0] = v3_2;
  }
  if (first + 384 < tile.y) {
    total_3[0] += lost_3[0];
    const T v0_3 = pivot_3;
    const T v1_3 = total_3[0];
    const T v2_3 = log(v1_3);
    const T v3_3 = v2_3 + v0_3;
    values[((size_t)batch * rows + row_3) * 1 + 0] = v3_3;
  }
}
