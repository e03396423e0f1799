// SPDX-License-Identifier: Apache-2.0
// What scaling_bench and size_bench share: models of random weights of any size, written a few rows at a time, and measurements in processes of their own.
#pragma once

#include <sys/wait.h>
#include <unistd.h>
#include <peft/core/parallel.hpp>
#include <peft/core/random.hpp>
#include <peft/ops/quantized.hpp>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

namespace bench {

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// A tensor of a model's file.
struct NamedShape {
  std::string name;
  peft::Shape shape;
  double scale = 1;
};

/// Random bytes of a tensor, in pieces: every row of a matrix is one of 64 random ones, N(0, scale²/columns); of vectors norms are 1 and biases 0.
inline void write_random(const NamedShape& tensor, peft::DType type, const std::function<void(const void* piece, std::size_t bytes)>& write) {
  const bool matrix = tensor.shape.rank() == 2;
  const std::int64_t cols = matrix ? tensor.shape.columns() : tensor.shape.size(), rows = matrix ? tensor.shape.rows() : 1,
                     row_bytes = peft::bytes_of(type, cols);
  const std::int64_t drawn = std::min<std::int64_t>(rows, 64);
  std::vector<std::byte> some(std::size_t(row_bytes * drawn));
  std::vector<float> values(std::size_t(cols), tensor.name.ends_with(".bias") ? 0.f : 1.f);
  peft::Random random(std::hash<std::string>{}(tensor.name));
  for (std::int64_t r = 0; r < drawn; r++) {
    if (matrix)
      for (float& v : values) v = float(tensor.scale * random.normal() / std::sqrt(double(cols)));
    peft::ops::quantize(some.data() + r * row_bytes, type, values.data(), cols);
  }
  for (std::int64_t r = 0; r < rows; r += drawn) write(some.data(), std::size_t(std::min(drawn, rows - r) * row_bytes));
}

/// f() in a process of its own, so that its peak memory is its own.
template <class F>
auto apart(const std::string& program, int threads, F f) {
  using Result = decltype(f());
  static_assert(std::is_trivially_copyable_v<Result>);
  int ends[2];
  if (::pipe(ends) != 0) throw peft::Error(program, "no pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      peft::set_num_threads(threads);
      const Result r = f();
      ::_exit(::write(ends[1], &r, sizeof r) == ssize_t(sizeof r) ? 0 : 1);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
  }
  ::close(ends[1]);
  Result r;
  const bool whole = ::read(ends[0], &r, sizeof r) == ssize_t(sizeof r);
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!whole || status != 0) throw peft::Error(program, "a measurement ended early");
  return r;
}

}  // namespace bench
