// f log2(e), a factor of the argument of an exponential that does not depend on the pair. A finite
// factor stays finite, as 0 times infinity is not 0: from 2^127.5 on it stays f.
__device__ __forceinline__ T times_log2e(T f) {
  const T p = f * T(1.4426950408889634);
  return p - p == T(0) || f - f != T(0) ? p : f;
}
// Adds the sum of a block to the total, without error (Knuth's two-sum): what the total cannot
// hold goes to `lost`. Infinite and NaN totals keep it out.
__device__ __forceinline__ void add_block(T& total, T& lost, T block) {
  const T sum = total + block;
  const T part = sum - total;
  const T error = (total - (sum - part)) + (block - part);
  total = sum;
  lost += error == error ? error : T(0);
}
// Kahan's summation; `lost` is what the sum has too much.
__device__ __forceinline__ void add_kahan(T& sum, T& lost, T value) {
  const T y = value - lost;
  const T t = sum + y;
  const T error = (t - sum) - y;
  lost = error == error ? error : T(0);
  sum = t;
}
// a 2^b, rounded once.
__device__ __forceinline__ T scale(T a, T b) {
  return b != b ? b : ldexp(a, (int)fmin(fmax(b, T(-5000)), T(5000)));
}
__device__ __forceinline__ T significand(T a) {
  return a - a != T(0) ? (a != a ? a : T(1)) : ldexp(a, a == T(0) ? 0 : -ilogb(a));
}
// Puts a key in its place among K sorted ones, behind equal ones; empty places have a negative
// column. It is rarely called and inlined in many places: a short loop over local memory serves
// better than unrolled moves between registers.
template <int K, bool MIN, bool INDEXED>
__device__ __forceinline__ void insert(T* best, int* at, size_t step, T key, int column) {
  bool open = true;
#pragma unroll 1
  for (int q = K - 1; q > 0 && open; q--) {
    const T before = best[(q - 1) * step];
    open = (MIN ? key < before : key > before) || (INDEXED && at[(q - 1) * step] < 0);
    best[q * step] = open ? before : key;
    if (INDEXED) at[q * step] = open ? at[(q - 1) * step] : column;
  }
  if (open) {
    best[0] = key;
    if (INDEXED) at[0] = column;
  }
}
