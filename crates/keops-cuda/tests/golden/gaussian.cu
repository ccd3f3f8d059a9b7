// gaussian 3
typedef float T;         // computes
typedef int I;           // as wide as T
typedef unsigned int U;
typedef float4 V;        // 16 bytes
typedef float S;         // arguments
typedef float O;         // results
#define LOAD(p) T(*(p))
extern "C" __global__ void __launch_bounds__(128)
keops_param(const S* a0, const S* a1, const S* a2, const S* a3, T* param, const long long* offsets) {
  const int batch = blockIdx.x;
  param += (size_t)batch * 2;
  const S* const r3 = a3 + offsets[(size_t)batch * 4 + 3];
  for (int c = threadIdx.x; c < 1; c += 128) param[0 + c] = LOAD(r3 + c);
  __syncthreads();
  if (threadIdx.x > 0) return;
  const T v0 = param[0];
  const T v1 = v0 * v0;
  const T v2 = -v1;
  param[1] = v2;
}
extern "C" __global__ void __launch_bounds__(128)
keops_kept(const S* a0, const S* a1, const S* a2, const S* a3, const T* __restrict__ param, T* __restrict__ kept, const long long* offsets, int rows) {
  const int blocks = (rows + 127) / 128;
  const int batch = blockIdx.x / blocks;
  const int row = (blockIdx.x - batch * blocks) * 128 + threadIdx.x;
  if (row >= rows) return;
  param += (size_t)batch * 2;
  kept += (size_t)batch * rows * 3;
  const S* const r0 = a0 + offsets[(size_t)batch * 4 + 0] + (size_t)row * 3;
  for (int c = 0; c < 3; c++) kept[(size_t)(0 + c) * rows + row] = LOAD(r0 + c);
}
extern "C" __global__ void __launch_bounds__(128)
keops_reduced(const S* a0, const S* a1, const S* a2, const S* a3, const T* __restrict__ param, T* __restrict__ reduced, const long long* offsets, int rows) {
  const int blocks = (rows + 127) / 128;
  const int batch = blockIdx.x / blocks;
  const int row = (blockIdx.x - batch * blocks) * 128 + threadIdx.x;
  if (row >= rows) return;
  param += (size_t)batch * 2;
  reduced += (size_t)batch * rows * 4;
  const S* const r1 = a1 + offsets[(size_t)batch * 4 + 1] + (size_t)row * 3;
  const S* const r2 = a2 + offsets[(size_t)batch * 4 + 2] + (size_t)row * 1;
  for (int c = 0; c < 3; c++) reduced[(size_t)row * 4 + 0 + c] = LOAD(r1 + c);
  for (int c = 0; c < 1; c++) reduced[(size_t)row * 4 + 3 + c] = LOAD(r2 + c);
}
extern "C" __global__ void __launch_bounds__(128, 1)
keops_reduce(const T* __restrict__ param, const T* __restrict__ kept,
             const T* __restrict__ reduced, char* __restrict__ workspace,
             O* __restrict__ values, long long* __restrict__ indices,
             const int4* __restrict__ tiles, const int2* __restrict__ ranges,
             int tiles_per_batch, int rows, int columns) {
  const int batch = blockIdx.x / tiles_per_batch;
  const int4 tile = tiles[blockIdx.x - batch * tiles_per_batch];
  param += (size_t)batch * 2;
  kept += (size_t)batch * rows * 3;
  reduced += (size_t)batch * columns * 4;
  const int first = tile.x + threadIdx.x;
  const int row_0 = min(first + 0, tile.y - 1);
  const int row_1 = min(first + 128, tile.y - 1);
  const int row_2 = min(first + 256, tile.y - 1);
  const int row_3 = min(first + 384, tile.y - 1);
  const T p1 = param[1];
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
      __syncthreads();
      const V* const from = (const V*)(reduced + (size_t)base * 4);
      for (int k = threadIdx.x; k < count * 1; k += 128) ((V*)stage)[k] = from[k];
      __syncthreads();
      #pragma unroll 8
      for (int k = 0; k < count; k++) {
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
        const T v12 = p1;
        const T v14_0 = exp2_fast(v11_0 * times_log2e(v12));
        const T v14_1 = exp2_fast(v11_1 * times_log2e(v12));
        const T v14_2 = exp2_fast(v11_2 * times_log2e(v12));
        const T v14_3 = exp2_fast(v11_3 * times_log2e(v12));
        const T v15 = y[3];
        sum_0[0] = fma(v14_0, v15, sum_0[0]);
        sum_1[0] = fma(v14_1, v15, sum_1[0]);
        sum_2[0] = fma(v14_2, v15, sum_2[0]);
        sum_3[0] = fma(v14_3, v15, sum_3[0]);
      }
      add_block(total_0[0], lost_0[0], sum_0[0]);
      add_block(total_1[0], lost_1[0], sum_1[0]);
      add_block(total_2[0], lost_2[0], sum_2[0]);
      add_block(total_3[0], lost_3[0], sum_3[0]);
    }
  }
  if (first + 0 < tile.y) {
    total_0[0] += lost_0[0];
    const T v0_0 = total_0[0];
    values[((size_t)batch * rows + row_0) * 1 + 0] = v0_0;
  }
  if (first + 128 < tile.y) {
    total_1[0] += lost_1[0];
    const T v0_1 = total_1[0];
    values[((size_t)batch * rows + row_1) * 1 + 0] = v0_1;
  }
  if (first + 256 < tile.y) {
    total_2[0] += lost_2[0];
    const T v0_2 = total_2[0];
    values[((size_t)batch * rows + row_2) * 1 + 0] = v0_2;
  }
  if (first + 384 < tile.y) {
    total_3[0] += lost_3[0];
    const T v0_3 = total_3[0];
    values[((size_t)batch * rows + row_3) * 1 + 0] = v0_3;
  }
}
