// SPDX-License-Identifier: Apache-2.0
#include "peft/ops/gemm.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "peft/core/bfloat16.hpp"
#include "peft/core/parallel.hpp"
#include "peft/ops/activation.hpp"
#include "peft/ops/quantized.hpp"
#include "support/tensors.hpp"

using namespace peft;
using namespace peft::ops;

namespace {

std::mt19937_64 engine(20240611);

// Where products are in bfloat16 the formula's factors are, too. Drawn so, x and dy are not changed by rounding.
double factor(double value) { return compute_dtype() == DType::bf16 ? double(to_float(to_bfloat16(float(value)))) : value; }

template <class T>
struct Matrix {
  std::int64_t rows, cols, stride;
  std::vector<T> data;
  // Rows stand `gap` apart; what lies between belongs to nobody and must stay.
  Matrix(std::int64_t r, std::int64_t c, std::int64_t gap = 0) : rows(r), cols(c), stride(c + gap), data(std::size_t(r * (c + gap)), T(-77)) {}
  Matrix& random() {
    std::normal_distribution<double> normal;
    for (std::int64_t i = 0; i < rows; i++)
      for (std::int64_t j = 0; j < cols; j++) (*this)(i, j) = T(factor(normal(engine)));
    return *this;
  }
  T& operator()(std::int64_t i, std::int64_t j) { return data[std::size_t(i * stride + j)]; }
  T operator()(std::int64_t i, std::int64_t j) const { return data[std::size_t(i * stride + j)]; }
  View<T> view() { return {data.data(), rows, cols, stride}; }
  View<const T> view() const { return {data.data(), rows, cols, stride}; }
  bool gaps_untouched() const {
    for (std::int64_t i = 0; i < rows; i++)
      for (std::int64_t j = cols; j < stride; j++)
        if (data[std::size_t(i * stride + j)] != T(-77)) return false;
    return true;
  }
};

template <class T>
bool same_bits(const Matrix<T>& a, const Matrix<T>& b) {
  return a.data.size() == b.data.size() && std::memcmp(a.data.data(), b.data.data(), a.data.size() * sizeof(T)) == 0;
}

template <class T>
bool same_product(const Matrix<T>& a, const Matrix<T>& b) {
  return peft::testing::same_product<T>(a.view(), b.view());
}

// The formula: c_ij = alpha Σ_k a_ik b_jk + beta c_ij + bias_j, in double. Errors are measured against Σ |a_ik b_jk|, as a product's
// rounding is bounded.
template <class A, class B, class C>
double worst_error(const C& c, const C& before, double alpha, double beta, std::int64_t depth, const A& a, const B& b, auto bias) {
  double worst = 0;
  for (std::int64_t i = 0; i < c.rows; i++)
    for (std::int64_t j = 0; j < c.cols; j++) {
      double sum = 0, size = 0;
      for (std::int64_t k = 0; k < depth; k++) sum += double(a(i, k)) * double(b(j, k)), size += std::fabs(double(a(i, k)) * double(b(j, k)));
      double want = alpha * sum + double(bias(j));
      if (beta != 0) want += beta * double(before(i, j)), size += std::fabs(double(before(i, j)));
      const double error = std::fabs(double(c(i, j)) - want) / (std::fabs(alpha) * size + std::fabs(double(bias(j))) + 1e-30);
      worst = error > worst || std::isnan(error) ? error : worst;
    }
  return worst;
}
template <class T>
constexpr double tolerance = sizeof(T) == 4 ? 2e-6 : 4e-15;
const auto no_bias = [](std::int64_t) { return 0.0; };

// Random stored weights of any type: what `quantize` writes, or for K-quants random bytes with sane scales.
struct Stored {
  std::vector<std::byte> bytes;
  WeightView view;
  Matrix<double> values;  // as the view is seen
  Stored(std::int64_t rows, std::int64_t cols, DType type, bool transposed = false, std::int64_t rope_head_dim = 0) : values(rows, cols) {
    const std::int64_t stored_rows = transposed ? cols : rows, n = transposed ? rows : cols;
    bytes.resize(std::size_t(bytes_of(type, stored_rows * n)));
    std::normal_distribution<float> normal;
    std::vector<float> row(static_cast<std::size_t>(n));
    for (std::int64_t r = 0; r < stored_rows; r++) {
      std::byte* to = bytes.data() + bytes_of(type, r * n);
      for (float& x : row) x = normal(engine);
      if (type == DType::f64) {
        for (std::int64_t i = 0; i < n; i++) {
          const double x = row[std::size_t(i)];
          std::memcpy(to + i * 8, &x, 8);
        }
      } else if (info(type).block == 256) {
        for (std::int64_t i = 0; i < bytes_of(type, n); i++) to[i] = std::byte(engine() & 255);
        for (std::int64_t b = 0; b < n / 256; b++) {  // the binary16 scales: 0.01
          std::byte* block = to + b * info(type).bytes;
          const std::uint16_t scale = 0x211f;
          const std::int64_t at = type == DType::q2_k ? 80 : type == DType::q3_k ? 108 : type == DType::q6_k ? 208 : 0;
          std::memcpy(block + at, &scale, 2);
          if (type == DType::q2_k || type == DType::q4_k || type == DType::q5_k) std::memcpy(block + at + 2, &scale, 2);
        }
      } else {
        quantize(to, type, row.data(), n);
      }
    }
    view = WeightView(bytes.data(), type, rows, cols);
    view.transposed = transposed, view.stride = n, view.rope_head_dim = rope_head_dim;
    for (std::int64_t r = 0; r < rows; r++)
      for (std::int64_t c = 0; c < cols; c++) {
        if (transposed)
          widen(&values(r, c), bytes.data(), type, c * n + r, 1);
        else
          widen(&values(r, c), view.row(r), type, c, 1);
        values(r, c) = factor(values(r, c));
      }
  }
};

template <class T>
void check_weight_products(std::int64_t n, const Stored& w, std::int64_t gap = 0) {
  const std::int64_t out = w.view.rows, in = w.view.cols;
  CAPTURE(n, out, in, name(w.view.dtype), w.view.transposed, w.view.rope_head_dim, gap, sizeof(T));
  const Matrix<T> x = Matrix<T>(n, in, gap).random(), dy = Matrix<T>(n, out, gap).random(), bias = Matrix<T>(1, out).random();
  const auto add_bias = [&](std::int64_t j) { return double(bias(0, j)); };
  const auto w_columns = [&](std::int64_t i, std::int64_t o) { return w.values(o, i); };
  for (Kernel k : {Kernel::panel, Kernel::dot}) {
    if (k == Kernel::dot && compute_dtype() == DType::bf16) continue;  // it stays float32
    const UseKernel use(k);
    for (bool accumulate : {false, true}) {
      Matrix<T> y = Matrix<T>(n, out, gap).random();
      const Matrix<T> before = y;
      linear_forward<T>(y.view(), x.view(), w.view, accumulate ? nullptr : bias.data.data(), accumulate);
      if (accumulate)
        CHECK(worst_error(y, before, 1, 1, in, x, w.values, no_bias) < tolerance<T>);
      else
        CHECK(worst_error(y, before, 1, 0, in, x, w.values, add_bias) < tolerance<T>);
      CHECK(y.gaps_untouched());
    }
    Matrix<T> y = Matrix<T>(n, out, gap).random();
    const Matrix<T> before = y;
    linear_forward<T>(y.view(), x.view(), w.view, bias.data.data(), true);
    CHECK(worst_error(y, before, 1, 1, in, x, w.values, add_bias) < tolerance<T>);
  }
  for (bool accumulate : {false, true}) {
    Matrix<T> dx = Matrix<T>(n, in, gap).random();
    const Matrix<T> before = dx;
    linear_backward_input<T>({dx.view(), accumulate}, dy.view(), w.view);
    CHECK(worst_error(dx, before, 1, accumulate, out, dy, w_columns, no_bias) < tolerance<T>);
    CHECK(dx.gaps_untouched());
  }
}

template <class T>
void check_weight_gradient(std::int64_t n, std::int64_t out, std::int64_t in, std::int64_t gap = 0) {
  CAPTURE(n, out, in, gap, sizeof(T));
  const Matrix<T> x = Matrix<T>(n, in, gap).random(), dy = Matrix<T>(n, out, gap).random();
  const auto dy_columns = [&](std::int64_t o, std::int64_t k) { return dy(k, o); };
  const auto x_columns = [&](std::int64_t i, std::int64_t k) { return x(k, i); };
  const auto one = [&](std::int64_t, std::int64_t) { return T(1); };
  for (bool accumulate : {false, true}) {
    Matrix<T> dw = Matrix<T>(out, in, gap).random(), db = Matrix<T>(1, out).random();
    const Matrix<T> dw_before = dw, db_before = db;
    linear_backward_weight<T>({dw.view(), accumulate}, {db.view(), accumulate}, dy.view(), x.view());
    CHECK(worst_error(dw, dw_before, 1, accumulate, n, dy_columns, x_columns, no_bias) < tolerance<T>);
    CHECK(worst_error(db, db_before, 1, accumulate, n, one, dy_columns, no_bias) < tolerance<T> * 4);
    CHECK(dw.gaps_untouched());
  }
  // Either may be nobody's.
  Matrix<T> dw(out, in), db(1, out);
  linear_backward_weight<T>({dw.view()}, {}, dy.view(), x.view());
  linear_backward_weight<T>({}, {db.view()}, dy.view(), x.view());
  CHECK(worst_error(dw, dw, 1, 0, n, dy_columns, x_columns, no_bias) < tolerance<T>);
  CHECK(worst_error(db, db, 1, 0, n, one, dy_columns, no_bias) < tolerance<T> * 4);
}

template <class T>
void check_gemm(std::int64_t m, std::int64_t n, std::int64_t k, double alpha, double beta, std::int64_t gap = 0) {
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      CAPTURE(m, n, k, ta, tb, alpha, beta, gap, sizeof(T));
      const Matrix<T> a = ta ? Matrix<T>(k, m, gap).random() : Matrix<T>(m, k, gap).random(),
                      b = tb ? Matrix<T>(n, k, gap).random() : Matrix<T>(k, n, gap).random();
      Matrix<T> c = Matrix<T>(m, n, gap).random();
      if (beta == 0)
        for (std::int64_t i = 0; i < m; i++)
          for (std::int64_t j = 0; j < n; j++) c(i, j) = std::numeric_limits<T>::quiet_NaN();
      const Matrix<T> before = c;
      gemm<T>(T(alpha), a.view(), ta, b.view(), tb, T(beta), c.view());
      const auto left = [&](std::int64_t i, std::int64_t l) { return ta ? a(l, i) : a(i, l); };
      const auto right = [&](std::int64_t j, std::int64_t l) { return tb ? b(j, l) : b(l, j); };
      CHECK(worst_error(c, before, double(T(alpha)), double(T(beta)), k, left, right, no_bias) < tolerance<T>);
      CHECK(c.gaps_untouched());
    }
}

constexpr DType unblocked[] = {DType::f32, DType::f64, DType::f16, DType::bf16};
constexpr DType blocked[] = {DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0, DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k};

struct Threads {
  int before = num_threads();
  explicit Threads(int n) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
};

}  // namespace

TEMPLATE_TEST_CASE("products with a weight equal the formula for every size", "[gemm]", float, double) {
  const std::int64_t sizes[] = {1, 2, 3, 5, 7, 8, 13, 14, 15, 16, 17, 31, 33, 47, 64, 65};
  std::size_t i = 0;
  for (std::int64_t n : sizes)
    for (std::int64_t out : sizes) check_weight_products<TestType>(n, Stored(out, sizes[i % std::size(sizes)], dtype_of<TestType>), std::int64_t(i % 3)), i++;
  for (std::int64_t in : {1, 2, 100, 767, 768, 769, 800, 1600}) check_weight_products<TestType>(9, Stored(37, in, dtype_of<TestType>));
  check_weight_products<TestType>(150, Stored(300, 130, dtype_of<TestType>), 5);
  check_weight_products<TestType>(3, Stored(2100, 40, dtype_of<TestType>), 5);
}

TEMPLATE_TEST_CASE("products with a weight of each storage type equal the formula", "[gemm]", float, double) {
  for (DType type : unblocked)
    for (std::int64_t in : {1, 31, 64, 77, 1000})
      for (std::int64_t n : {1, 6, 40}) check_weight_products<TestType>(n, Stored(45, in, type));
  for (DType type : blocked) {
    for (std::int64_t blocks : {1, 3, 5})
      for (std::int64_t n : {1, 6, 40}) check_weight_products<TestType>(n, Stored(45, blocks * info(type).block, type));
    check_weight_products<TestType>(20, Stored(7, 256, type));
    check_weight_products<TestType>(5, Stored(130, 1024, type));
  }
}

TEMPLATE_TEST_CASE("a weight stored transposed (Conv1D) is seen as (out, in)", "[gemm]", float, double) {
  for (DType type : unblocked)
    for (std::int64_t out : {1, 12, 33, 100})
      for (std::int64_t n : {1, 5, 19, 40}) check_weight_products<TestType>(n, Stored(out, 70, type, true));
  Stored blocks(64, 64, DType::q4_0);
  blocks.view.transposed = true;
  Matrix<TestType> y(1, 64), x(1, 64);
  CHECK_THROWS_AS(linear_forward<TestType>(y.view(), x.view(), blocks.view), Error);
}

TEMPLATE_TEST_CASE("GGUF's rotary row order is undone in every product", "[gemm]", float, double) {
  for (std::int64_t head_dim : {2, 8, 64})
    for (DType type : {DType::f32, DType::bf16, DType::q4_1, DType::q8_0, DType::q5_0})
      for (std::int64_t n : {1, 5, 40}) check_weight_products<TestType>(n, Stored(head_dim * 3, 96, type, false, head_dim));
  // The oracle itself: stored row 2i + j of a head is row j d/2 + i.
  const Stored w(8, 32, DType::f32, false, 8);
  float value;
  std::memcpy(&value, w.bytes.data() + 3 * 32 * 4, 4);  // i = 1, j = 1
  CHECK(double(value) == w.values(5, 0));
}

TEMPLATE_TEST_CASE("weight and bias gradients equal the formula", "[gemm]", float, double) {
  const std::int64_t sizes[] = {1, 2, 4, 8, 13, 16, 31, 33, 65, 100};
  std::size_t i = 0;
  for (std::int64_t out : sizes)
    for (std::int64_t in : sizes) check_weight_gradient<TestType>(sizes[i % std::size(sizes)], out, in, std::int64_t(i % 2) * 3), i++;
  check_weight_gradient<TestType>(1700, 9, 33);
  check_weight_gradient<TestType>(40, 300, 270, 1);
}

TEMPLATE_TEST_CASE("gemm equals the formula for every orientation", "[gemm]", float, double) {
  for (std::int64_t m : {1, 4, 14, 15, 33, 130})
    for (std::int64_t n : {1, 4, 8, 16, 17, 64, 130})
      for (std::int64_t k : {1, 4, 8, 33}) check_gemm<TestType>(m, n, k, 1, 0, (m + n + k) % 3);
  for (double alpha : {0.0, 1.0, -2.5})
    for (double beta : {0.0, 1.0, 0.5})
      check_gemm<TestType>(20, 40, 50, alpha, beta, 1), check_gemm<TestType>(20, 8, 50, alpha, beta, 1), check_gemm<TestType>(8, 40, 900, alpha, beta);
}

TEMPLATE_TEST_CASE("empty products", "[gemm]", float, double) {
  Matrix<TestType> x(3, 0), w(20, 0), y = Matrix<TestType>(3, 20).random(), bias = Matrix<TestType>(1, 20).random();
  linear_forward<TestType>(y.view(), x.view(), WeightView(w.view()), bias.data.data());  // no inputs: the bias is left
  for (std::int64_t i = 0; i < 3; i++)
    for (std::int64_t j = 0; j < 20; j++) CHECK(y(i, j) == bias(0, j));
  Matrix<TestType> none(0, 5), weight(20, 5), result(0, 20), dw = Matrix<TestType>(20, 5).random();
  linear_forward<TestType>(result.view(), none.view(), WeightView(weight.view()));
  const Matrix<TestType> before = dw;
  linear_backward_weight<TestType>({dw.view(), true}, {}, result.view(), none.view());  // no rows: nothing to add
  CHECK(same_bits(dw, before));
  linear_backward_weight<TestType>({dw.view(), false}, {}, result.view(), none.view());
  for (TestType value : dw.data) CHECK(value == 0);
}

TEST_CASE("shapes that do not fit are refused", "[gemm]") {
  Matrix<float> a(2, 3), b(4, 5), c(2, 4);
  CHECK_THROWS_AS(linear_forward<float>(c.view(), a.view(), WeightView(b.view())), ShapeError);
  CHECK_THROWS_AS(linear_backward_input<float>({c.view()}, a.view(), WeightView(b.view())), ShapeError);
  CHECK_THROWS_AS(linear_backward_weight<float>({c.view()}, {}, a.view(), b.view()), ShapeError);
  CHECK_THROWS_AS(gemm<float>(1, a.view(), false, b.view(), false, 0, c.view()), ShapeError);
  std::int32_t whole[15] = {};
  Matrix<float> y(2, 5);
  CHECK_THROWS_WITH(linear_forward<float>(y.view(), a.view(), WeightView(whole, DType::i32, 5, 3)), Catch::Contains("I32"));
}

TEMPLATE_TEST_CASE("what is done to a product's tiles has the bits of the steps one by one", "[gemm]", float, double) {
  using T = TestType;
  struct Case {
    std::int64_t n, out, in, r;
    DType type;
  };
  for (const Case& c : {Case{1, 40, 70, 8, dtype_of<T>}, Case{33, 45, 64, 4, DType::q4_1}, Case{150, 100, 1700, 17, dtype_of<T>},
                        Case{15, 576, 33, 64, DType::f16}, Case{29, 8, 40, 3, dtype_of<T>}})
    for (Kernel k : {Kernel::panel, Kernel::dot})
      for (DType products : {DType::f32, DType::bf16}) {
        CAPTURE(c.n, c.out, c.in, c.r, int(k), name(products));
        const Stored w(c.out, c.in, c.type);
        const Matrix<T> x = Matrix<T>(c.n, c.in, 3).random(), xa = Matrix<T>(c.n, c.r, 1).random(), B = Matrix<T>(c.out, c.r).random(),
                        A = Matrix<T>(c.r, c.in, 2).random(), dy = Matrix<T>(c.n, c.out, 1).random(), bias = Matrix<T>(1, c.out).random();
        const UseKernel use(k);
        const UseComputeDtype rounded(products);
        for (bool accumulate : {false, true}) {
          Matrix<T> steps = Matrix<T>(c.n, c.out, 2).random();
          Matrix<T> together = steps;
          linear_forward<T>(steps.view(), x.view(), w.view, bias.data.data(), accumulate);
          gemm<T>(T(0.7), xa.view(), false, B.view(), true, T(1), steps.view());
          activation_forward<T>(steps.view(), steps.view(), Activation::gelu);
          const Activation gelu = Activation::gelu;
          linear_forward<T>(together.view(), x.view(), w.view, bias.data.data(), accumulate, {xa.view(), B.view(), false, T(0.7), &gelu});
          CHECK(same_product(steps, together));
          Matrix<T> dx_steps = Matrix<T>(c.n, c.in).random();
          Matrix<T> dx = dx_steps;
          linear_backward_input<T>({dx_steps.view(), accumulate}, dy.view(), w.view);
          gemm<T>(T(1), xa.view(), false, A.view(), false, T(1), dx_steps.view());
          linear_backward_input<T>({dx.view(), accumulate}, dy.view(), w.view, {xa.view(), A.view(), true});
          CHECK(same_product(dx_steps, dx));
        }
      }
  Matrix<T> y(5, 20), x(5, 30), xa(5, 4), B(21, 4);
  const Stored w(20, 30, dtype_of<T>);
  CHECK_THROWS_AS(linear_forward<T>(y.view(), x.view(), w.view, nullptr, false, {xa.view(), B.view()}), ShapeError);
}

TEST_CASE("products in bfloat16 equal the formula over rounded factors", "[gemm]") {
  {
    const UseComputeDtype products(DType::bf16);
    if (!has_bf16_products()) {  // then they are float32's
      const Matrix<float> x = Matrix<float>(5, 70).random();
      const Stored w(40, 70, DType::f32);
      Matrix<float> y(5, 40), same(5, 40);
      linear_forward<float>(y.view(), x.view(), w.view);
      const UseComputeDtype back(DType::f32);
      linear_forward<float>(same.view(), x.view(), w.view);
      CHECK(same_bits(y, same));
      return;
    }
    for (DType type : {DType::f32, DType::f16, DType::bf16})
      for (std::int64_t in : {1, 2, 31, 33, 64, 77, 1000, 1601})
        for (std::int64_t n : {1, 6, 15, 40}) check_weight_products<float>(n, Stored(45, in, type), n % 3);
    for (DType type : {DType::q4_1, DType::q8_0, DType::q6_k}) check_weight_products<float>(20, Stored(130, 512, type));
    for (DType type : {DType::f32, DType::bf16})
      for (std::int64_t out : {17, 33, 100, 128}) check_weight_products<float>(19, Stored(out, 70, type, true));
    for (std::int64_t head_dim : {4, 8, 64}) check_weight_products<float>(19, Stored(head_dim * 9, 96, DType::q4_1, false, head_dim));
    check_weight_gradient<float>(100, 40, 33, 1);
    check_weight_gradient<float>(15, 300, 270);
    CHECK(compute_dtype() == DType::bf16);
  }
  CHECK(compute_dtype() == DType::f32);
  CHECK_THROWS_AS(UseComputeDtype(DType::f16), ConfigError);
}

TEMPLATE_TEST_CASE("a row has the same bits alone and in a batch, with one thread and with two", "[gemm]", float, double) {
  struct Case {
    std::int64_t out, in;
    DType type;
    bool transposed;
    std::int64_t rope;
  };
  for (const Case& c : {Case{70, 100, dtype_of<TestType>, false, 0}, Case{8, 576, dtype_of<TestType>, false, 0}, Case{300, 8, dtype_of<TestType>, false, 0},
                        Case{96, 1600, dtype_of<TestType>, false, 0}, Case{128, 800, DType::q4_1, false, 64}, Case{130, 256, DType::q6_k, false, 0},
                        Case{100, 77, DType::f16, true, 0}, Case{100, 77, DType::bf16, false, 0}, Case{65, 64, DType::q8_0, false, 0}}) {
    const UseComputeDtype products(c.out % 3 == 1 ? DType::bf16 : DType::f32);
    const Stored w(c.out, c.in, c.type, c.transposed, c.rope);
    CAPTURE(c.out, c.in, name(c.type), c.transposed);
    for (std::int64_t n : {7, 15, 33, 61}) {
      const Matrix<TestType> x = Matrix<TestType>(n, c.in).random(), dy = Matrix<TestType>(n, c.out).random();
      for (Kernel k : {Kernel::panel, Kernel::dot}) {
        const UseKernel use(k);
        CHECK(kernel() == k);
        Matrix<TestType> y(n, c.out), dx(n, c.in);
        {
          const Threads one(1);
          linear_forward<TestType>(y.view(), x.view(), w.view);
          linear_backward_input<TestType>({dx.view()}, dy.view(), w.view);
        }
        for (int threads : {1, 2}) {
          const Threads some(threads);
          Matrix<TestType> y2(n, c.out), dx2(n, c.in);
          linear_forward<TestType>(y2.view(), x.view(), w.view);
          linear_backward_input<TestType>({dx2.view()}, dy.view(), w.view);
          CHECK(same_product(y, y2));
          CHECK(same_product(dx, dx2));
          // Some rows of the batch alone, one by one and in groups.
          for (std::int64_t rows : {1, 2, 5}) {
            Matrix<TestType> parts(n, c.out), dx_parts(n, c.in);
            for (std::int64_t i = 0; i < n; i += rows) {
              const std::int64_t end = std::min(n, i + rows);
              linear_forward<TestType>(parts.view().row_range(i, end), x.view().row_range(i, end), w.view);
              linear_backward_input<TestType>({dx_parts.view().row_range(i, end)}, dy.view().row_range(i, end), w.view);
            }
            CHECK(same_product(y, parts));
            CHECK(same_product(dx, dx_parts));
          }
        }
      }
    }
  }
  CHECK(kernel() == Kernel::panel);
}

TEMPLATE_TEST_CASE("a scaled product that is added has the same bits alone and in a batch", "[gemm]", float, double) {
  using T = TestType;
  constexpr std::int64_t rows = 11;
  for (std::int64_t out : {1, 4, 5, 16})
    for (std::int64_t in : {3, 16, 20}) {
      const Matrix<T> x = Matrix<T>(rows, in).random(), w = Matrix<T>(out, in).random(), y = Matrix<T>(rows, out).random();
      Matrix<T> together = y;
      gemm<T>(T(0.7), x.view(), false, w.view(), true, T(1), together.view());
      for (std::int64_t n : {1, 2, 3, 7}) {
        Matrix<T> parts = y;
        for (std::int64_t i = 0; i < rows; i += n) {
          const std::int64_t end = std::min(rows, i + n);
          gemm<T>(T(0.7), x.view().row_range(i, end), false, w.view(), true, T(1), parts.view().row_range(i, end));
        }
        CHECK(same_product(together, parts));
      }
    }
}

TEMPLATE_TEST_CASE("gradients and general products have the same bits for any number of threads", "[gemm]", float, double) {
  const Matrix<TestType> x = Matrix<TestType>(600, 200).random(), dy = Matrix<TestType>(600, 150).random(), g = Matrix<TestType>(600, 8).random();
  std::vector<Matrix<TestType>> first;
  for (int threads : {1, 2, 5}) {
    const Threads some(threads);
    Matrix<TestType> dw(150, 200), db(1, 150), da(8, 200), dbt(150, 8), xa(600, 150);
    linear_backward_weight<TestType>({dw.view()}, {db.view()}, dy.view(), x.view());
    gemm<TestType>(2, g.view(), true, x.view(), false, 0, da.view());
    gemm<TestType>(2, dy.view(), true, g.view(), false, 0, dbt.view());
    gemm<TestType>(2, g.view(), false, dbt.view(), true, 0, xa.view());
    if (first.empty()) first = {dw, db, da, dbt, xa};
    CHECK(same_product(dw, first[0]));
    CHECK(same_bits(db, first[1]));
    CHECK(same_product(da, first[2]));
    CHECK(same_product(dbt, first[3]));
    CHECK(same_product(xa, first[4]));
  }
}

TEST_CASE("products take no memory from the system the second time", "[gemm]") {
  const Threads two(2);
  const Stored w(400, 300, DType::bf16);
  const Matrix<float> x = Matrix<float>(130, 300).random();
  Matrix<float> y(130, 400), dx(130, 300), dw(400, 300);
  std::int64_t calls = 0;
  for (int i = 0; i < 4; i++) {
    if (i == 1) calls = memory::statistics().system_calls;
    linear_forward<float>(y.view(), x.view(), w.view);
    linear_backward_input<float>({dx.view()}, y.view(), w.view);
    linear_backward_weight<float>({dw.view()}, {}, y.view(), x.view());
  }
  CHECK(memory::statistics().system_calls == calls);
}
