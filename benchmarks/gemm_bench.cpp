// SPDX-License-Identifier: Apache-2.0
// The products of a transformer's layers, beside the arithmetic peak of one core, which is measured first, and beside Eigen, OpenBLAS and
// oneDNN where they are installed. Each figure is the best of many runs: other programs may share the machine.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "peft/core/parallel.hpp"
#include "peft/ops/gemm.hpp"
#include "peft/ops/impl/gemm_engine.hpp"
#include "peft/ops/isa.hpp"
#include "peft/ops/quantized.hpp"

#if __has_include(<Eigen/Core>)
#include <Eigen/Core>
#define PEFT_BENCH_EIGEN 1
#endif
#if defined(PEFT_BENCH_OPENBLAS)
#include <cblas.h>
#endif
#if defined(PEFT_BENCH_ONEDNN)
#include <oneapi/dnnl/dnnl.h>
#endif

using namespace peft;
using namespace peft::ops;

namespace {

double budget = 0.15;  // seconds for each figure

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

template <class F>
double best(const F& f) {
  double fastest = 1e30, spent = 0;
  for (int runs = 0; spent < budget || runs < 3; runs++) {
    const double start = now();
    f();
    const double t = now() - start;
    fastest = std::min(fastest, t), spent += t;
  }
  return fastest;
}

// Sixteen independent chains of multiply-adds on registers.
#define PEFT_BENCH_PEAK(NAME, TARGET, BYTES)                                                                               \
  TARGET double NAME(long n) {                                                                                             \
    typedef float V __attribute__((vector_size(BYTES)));                                                                   \
    V c0{}, c1{}, c2{}, c3{}, c4{}, c5{}, c6{}, c7{}, c8{}, c9{}, a = c0 + 0.5f, b = c0 + 0.25f;                           \
    for (long i = 0; i < n; i++) {                                                                                         \
      c0 += a * b, c1 += a * b, c2 += a * b, c3 += a * b, c4 += a * b, c5 += a * b, c6 += a * b, c7 += a * b, c8 += a * b; \
      c9 += a * b;                                                                                                         \
      asm volatile("" : PEFT_BENCH_OP(c0), PEFT_BENCH_OP(c1), PEFT_BENCH_OP(c2), PEFT_BENCH_OP(c3), PEFT_BENCH_OP(c4));    \
      asm volatile("" : PEFT_BENCH_OP(c5), PEFT_BENCH_OP(c6), PEFT_BENCH_OP(c7), PEFT_BENCH_OP(c8), PEFT_BENCH_OP(c9));    \
    }                                                                                                                      \
    return 10.0 * 2 * (BYTES / 4) * double(n);                                                                             \
  }
#if defined(__x86_64__)
#define PEFT_BENCH_OP(c) "+v"(c)
PEFT_BENCH_PEAK(peak_avx512, __attribute__((target("avx512f,fma"))), 64)
PEFT_BENCH_PEAK(peak_avx2, __attribute__((target("avx2,fma,no-avx512f"))), 32)
#undef PEFT_BENCH_OP
#define PEFT_BENCH_OP(c) "+x"(c)
PEFT_BENCH_PEAK(peak_baseline, __attribute__((target("no-avx"))), 16)
#else
#define PEFT_BENCH_OP(c) "+w"(c)
PEFT_BENCH_PEAK(peak_baseline, , 16)
#endif

/// Of all these threads together: two of them may share a core's units.
double peak(int threads) {
  set_num_threads(threads);
  auto* f = peak_baseline;
#if defined(__x86_64__)
  if (isa() == Isa::avx512) f = peak_avx512;
  if (isa() == Isa::avx2) f = peak_avx2;
#endif
  std::vector<double> operations(static_cast<std::size_t>(8 * threads));  // several parts a thread, since one may begin late
  const double t = best([&] { parallel_for(8 * threads, [&](std::int64_t i) { operations[std::size_t(i)] = f(50000); }); });
  return 8 * threads * operations[0] / t * 1e-9;
}

std::vector<float> numbers(std::int64_t n) {
  std::vector<float> v(static_cast<std::size_t>(n));
  std::uint32_t state = 1;
  for (float& x : v) state = state * 1664525 + 1013904223, x = float(state >> 8) * 0x1p-24f - 0.5f;
  return v;
}

struct Weights {
  std::vector<std::byte> bytes;
  WeightView view;
  Weights(std::int64_t out, std::int64_t in, DType type) : bytes(std::size_t(bytes_of(type, out * in))), view(bytes.data(), type, out, in) {
    const std::vector<float> row = numbers(in);
    if (type == DType::q4_k || type == DType::q6_k) {  // bits that are small numbers
      std::ranges::fill(bytes, std::byte(0x11));
      return;
    }
    for (std::int64_t r = 0; r < out; r++) quantize(bytes.data() + bytes_of(type, r * in), type, row.data(), in);
  }
};

double all_threads = 1;  // their peak

void line(const std::string& what, std::int64_t m, std::int64_t n, std::int64_t k, double seconds, int threads) {
  const double speed = 2.0 * double(m) * double(n) * double(k) / seconds * 1e-9;
  fmt::print("{:<26} M {:>4} N {:>5} K {:>5}  {} thread{}  {:>9.1f} us  {:>7.1f} GFLOP/s  {:>5.1f} %\n", what, m, n, k, threads, threads > 1 ? "s" : " ",
             seconds * 1e6, speed, 100 * speed / all_threads);
}

// The same product y = x wᵀ by others, over float32.
void by_others(std::int64_t m, std::int64_t out, std::int64_t in, const std::vector<float>& x, const std::vector<float>& w, std::vector<float>& y,
               int threads) {
#if defined(PEFT_BENCH_EIGEN)
  if (threads == 1) {
    using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::Map<const Matrix> ex(x.data(), m, in), ew(w.data(), out, in);
    Eigen::Map<Matrix> ey(y.data(), m, out);
    line("  (Eigen, no flags)", m, out, in, best([&] { ey.noalias() = ex * ew.transpose(); }), threads);
  }
#endif
#if defined(PEFT_BENCH_OPENBLAS)
  openblas_set_num_threads(threads);
  line("  (OpenBLAS)", m, out, in, best([&] {
         cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, blasint(m), blasint(out), blasint(in), 1, x.data(), blasint(in), w.data(), blasint(in), 0,
                     y.data(), blasint(out));
       }),
       threads);
#endif
#if defined(PEFT_BENCH_ONEDNN)
  const char* const wanted = std::getenv("OMP_NUM_THREADS");  // its threads are not ours to set
  if (wanted ? std::atoi(wanted) == threads : threads == 2)
    line("  (oneDNN)", m, out, in, best([&] { dnnl_sgemm('N', 'T', m, out, in, 1, x.data(), in, w.data(), in, 0, y.data(), out); }), threads);
#endif
  (void)m, (void)out, (void)in, (void)x, (void)w, (void)y, (void)threads;
}

void weight_products(std::int64_t m, std::int64_t out, std::int64_t in, int threads, bool all) {
  const std::vector<float> x = numbers(m * in), dy = numbers(m * out);
  std::vector<float> y(x.size() + dy.size()), dw(static_cast<std::size_t>(out * in));
  for (DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_1, DType::q4_k, DType::q6_k}) {
    if (type != DType::f32 && !all) continue;
    if ((type == DType::q4_k || type == DType::q6_k) && in % 256 != 0) continue;
    const Weights w(out, in, type);
    line("forward " + std::string(name(type)), m, out, in, best([&] {
           linear_forward<float>({y.data(), m, out}, View<const float>(x.data(), m, in), w.view);
         }),
         threads);
    line("  dX " + std::string(name(type)), m, in, out, best([&] {
           linear_backward_input<float>({{y.data(), m, in}}, View<const float>(dy.data(), m, out), w.view);
         }),
         threads);
  }
  line("  dW", out, in, m, best([&] {
         linear_backward_weight<float>({{dw.data(), out, in}}, {}, View<const float>(dy.data(), m, out), View<const float>(x.data(), m, in));
       }),
       threads);
  by_others(m, out, in, x, dw, y, threads);
}

// LoRA's products: xa = x Aᵀ, y += xa Bᵀ, g = dy B, dA = gᵀ x, dB = dyᵀ xa, dx += g A.
void low_rank(std::int64_t m, std::int64_t out, std::int64_t in, std::int64_t r, int threads) {
  const std::vector<float> x = numbers(m * in), A = numbers(r * in), B = numbers(out * r);
  std::vector<float> xa = numbers(m * r), y = numbers(m * out), dx = numbers(m * in), dA(A.size()), dB(B.size());
  const View<const float> X(x.data(), m, in), Y(y.data(), m, out), va(A.data(), r, in), vb(B.data(), out, r), G(xa.data(), m, r);
  const std::string rank = "rank " + std::to_string(r) + " ";
  line(rank + "x At", m, r, in, best([&] { linear_forward<float>({xa.data(), m, r}, X, va); }), threads);
  line(rank + "y += xa Bt", m, out, r, best([&] { gemm<float>(0.5f, G, false, vb, true, 1, {y.data(), m, out}); }), threads);
  line(rank + "dy B", m, r, out, best([&] { gemm<float>(0.5f, Y, false, vb, false, 0, {xa.data(), m, r}); }), threads);
  line(rank + "dA = gt x", r, in, m, best([&] { gemm<float>(1, G, true, X, false, 0, {dA.data(), r, in}); }), threads);
  line(rank + "dB = dyt xa", out, r, m, best([&] { gemm<float>(1, Y, true, G, false, 0, {dB.data(), out, r}); }), threads);
  line(rank + "dx += g A", m, in, r, best([&] { gemm<float>(1, G, false, va, false, 1, {dx.data(), m, in}); }), threads);
}

// One row against 64 MiB of weights in many matrices, so that they come from memory and not from a cache.
void decode(std::int64_t m, std::int64_t out, std::int64_t in, DType type, int threads) {
  const UseKernel dot(Kernel::dot);
  const std::int64_t bytes = bytes_of(type, out * in), copies = std::max<std::int64_t>(1, (std::int64_t(64) << 20) / bytes);
  const Weights w(out, in, type);
  std::vector<std::byte> many(static_cast<std::size_t>(copies * bytes));
  for (std::int64_t i = 0; i < copies; i++) std::memcpy(many.data() + i * bytes, w.bytes.data(), std::size_t(bytes));
  const std::vector<float> x = numbers(m * in);
  std::vector<float> y(static_cast<std::size_t>(m * out));
  const double t = best([&] {
    for (std::int64_t i = 0; i < copies; i++) {
      WeightView v = w.view;
      v.data = many.data() + i * bytes;
      linear_forward<float>({y.data(), m, out}, View<const float>(x.data(), m, in), v);
    }
  });
  fmt::print("decode {:<5} M {:>2} N {:>5} K {:>5}  {} thread{}  {:>6.1f} GB/s of weights  ({:.1f} us a product)\n", name(type), m, out, in, threads,
             threads > 1 ? "s" : " ", double(bytes * copies) / t * 1e-9, t * 1e6 / double(copies));
}

struct Shapes {
  const char* name;
  std::int64_t hidden, key_value, inner, vocabulary;
};
// GPT-2 has one map for queries, keys and values.
constexpr Shapes all_shapes[] = {
    {"smollm2", 576, 192, 1536, 49152}, {"minilm", 384, 384, 1536, 0}, {"gpt2", 768, 2304, 3072, 50257}, {"7b", 4096, 1024, 11008, 0}};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Times matrix products and compares them with the peak of the machine"};
  std::string only, shapes = "smollm2", dtype = "f32";
  std::vector<int> threads_list = {1, 2};
  app.add_option("--seconds", budget, "for each figure")->capture_default_str();
  app.add_option("--only", only, "gemm, rank or decode")->check(CLI::IsMember({"gemm", "rank", "decode"}));
  app.add_option("--shapes", shapes, "whose layers: smollm2, minilm, gpt2 or 7b")
      ->capture_default_str()
      ->check(CLI::IsMember({"smollm2", "minilm", "gpt2", "7b"}));
  app.add_option("--dtype", dtype, "what products with weights multiply: f32 or bf16")->capture_default_str()->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--threads", threads_list, "numbers of threads, one after the other")->capture_default_str()->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  const Shapes& s = *std::find_if(std::begin(all_shapes), std::end(all_shapes), [&](const Shapes& one) { return shapes == one.name; });

  if (dtype == "bf16" && !has_bf16_products()) fmt::print("this processor has no products of bfloat16; they are computed in float32\n");
  const UseComputeDtype products(dtype == "bf16" ? DType::bf16 : DType::f32);
  for (int threads : threads_list) {
    all_threads = peak(threads);
    fmt::print("{}: peak of {} thread{} {:.1f} GFLOP/s (float32); products in {}, by: {}\n", name(isa()), threads, threads > 1 ? "s" : "", all_threads, dtype,
               ops::detail::gemm_engine);
    if (only.empty() || only == "gemm") {
      weight_products(512, s.hidden, s.hidden, threads, true);
      weight_products(512, s.key_value, s.hidden, threads, true);
      weight_products(512, s.inner, s.hidden, threads, true);
      weight_products(512, s.hidden, s.inner, threads, true);
      if (s.vocabulary) weight_products(512, s.vocabulary, s.hidden, threads, false);
      weight_products(64, s.hidden, s.hidden, threads, true);
      weight_products(16, s.hidden, s.hidden, threads, true);
    }
    if (only.empty() || only == "rank")
      for (std::int64_t r : {4, 8, 16, 64}) low_rank(512, s.hidden, s.hidden, r, threads);
    if (only.empty() || only == "decode") {
      for (DType type : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_1}) decode(1, s.inner, s.hidden, type, threads);
      decode(1, s.hidden, s.inner, DType::q4_1, threads), decode(4, s.inner, s.hidden, DType::q4_1, threads);
      if (s.vocabulary) decode(1, s.vocabulary, s.hidden, DType::q4_1, threads);
    }
  }
}
