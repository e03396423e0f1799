// SPDX-License-Identifier: Apache-2.0
// C (rows, n) += A B for the small matrices of one attention tile. Every row is summed over k in ascending order, whatever the number of
// rows, so a row's bits do not depend on its neighbours. B and C may have any width; a rest shorter than a register goes through part loads.
namespace peft::ops::PEFT_ISA {

template <class T>
PEFT_TARGET T row_dot(const T* a, const T* b, std::int64_t n) {
  V<T> s{};
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) s += load(a + i) * load(b + i);
  T total = sum<T>(s);
  for (; i < n; i++) total += a[i] * b[i];
  return total;
}

template <class T, int R, int N>
PEFT_TARGET void small_block(std::int64_t K, const T* A, std::int64_t row_step, std::int64_t k_step, const T* B, std::int64_t ldb, T* C, std::int64_t ldc,
                             std::int64_t last) {
  V<T> acc[R][N];
  _Pragma("GCC unroll 8") for (int r = 0; r < R; r++) _Pragma("GCC unroll 8") for (int j = 0; j < N; j++) acc[r][j] =
      j + 1 < N || last == L<T> ? load(C + r * ldc + j * L<T>) : load_part(C + r * ldc + j * L<T>, last);
  for (std::int64_t k = 0; k < K; k++) {
    V<T> b[N];
    _Pragma("GCC unroll 8") for (int j = 0; j < N; j++) b[j] =
        j + 1 < N || last == L<T> ? load(B + k * ldb + j * L<T>) : load_part(B + k * ldb + j * L<T>, last);
    _Pragma("GCC unroll 8") for (int r = 0; r < R; r++) {
      const V<T> a = broadcast(A[r * row_step + k * k_step]);
      _Pragma("GCC unroll 8") for (int j = 0; j < N; j++) acc[r][j] += a * b[j];
    }
  }
  _Pragma("GCC unroll 8") for (int r = 0; r < R; r++) _Pragma("GCC unroll 8") for (int j = 0; j < N; j++) {
    if (j + 1 < N || last == L<T>)
      store(C + r * ldc + j * L<T>, acc[r][j]);
    else
      store_part(C + r * ldc + j * L<T>, acc[r][j], last);
  }
}

template <class T, int N>
PEFT_TARGET void small_columns(std::int64_t rows, std::int64_t K, const T* A, std::int64_t row_step, std::int64_t k_step, const T* B, std::int64_t ldb, T* C,
                               std::int64_t ldc, std::int64_t last) {
  constexpr int R = PEFT_BYTES == 64 ? 6 : 2;
  std::int64_t i = 0;
  for (; i + R <= rows; i += R) small_block<T, R, N>(K, A + i * row_step, row_step, k_step, B, ldb, C + i * ldc, ldc, last);
  for (; i < rows; i++) small_block<T, 1, N>(K, A + i * row_step, row_step, k_step, B, ldb, C + i * ldc, ldc, last);
}

/// C (rows, n) += A (rows, K) B (K, n);  A's element (i, k) at A[i · row_step + k · k_step]
template <class T>
PEFT_TARGET void small_product(std::int64_t rows, std::int64_t n, std::int64_t K, const T* A, std::int64_t row_step, std::int64_t k_step, const T* B,
                               std::int64_t ldb, T* C, std::int64_t ldc) {
  std::int64_t j = 0;
  for (; j + 4 * L<T> <= n; j += 4 * L<T>) small_columns<T, 4>(rows, K, A, row_step, k_step, B + j, ldb, C + j, ldc, L<T>);
  for (; j < n; j += L<T>) {
    const std::int64_t last = n - j < L<T> ? n - j : L<T>;
    small_columns<T, 1>(rows, K, A, row_step, k_step, B + j, ldb, C + j, ldc, last);
  }
}

}  // namespace peft::ops::PEFT_ISA
