// SPDX-License-Identifier: Apache-2.0
#include "peft/checkpoint/training_state.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "peft/io/safetensors.hpp"
#include "peft/optim/adamw.hpp"
#include "peft/optim/sgd.hpp"
#include "support/files.hpp"
#include "support/tensors.hpp"

using namespace peft;
using namespace peft::testing;

namespace {

template <Scalar T>
std::vector<Trainable<T>> two_tensors(std::uint64_t seed = 1) {
  return {{"a", Parameter<T>(random_normal<T>({3, 4}, seed), true)}, {"b", Parameter<T>(random_normal<T>({5}, seed + 1), true)}};
}
/// A step with a gradient that depends on the parameters and on the number of the step.
template <class O>
void step(O& optimizer, int n) {
  for (const auto& t : optimizer.trainables()) {
    const auto sink = t.parameter.gradient().sink();
    for (std::int64_t i = 0; i < t.parameter.size(); i++) {
      const auto p = t.parameter.value()[i];
      sink.view.data[i] = p + std::remove_const_t<decltype(p)>(std::sin(n + double(i)));
    }
  }
  optimizer.step(0.01);
  zero_grad(optimizer.trainables());
}
template <class T, class O>
bool same_numbers(const O& a, const std::vector<Tensor<T>>& b) {
  for (std::size_t i = 0; i < b.size(); i++)
    if (!same_bits(a.trainables()[i].parameter.value(), b[i])) return false;
  return true;
}

}  // namespace

TEMPLATE_TEST_CASE("a resumed run makes the steps that the interrupted one would have made", "[checkpoint]", float, double) {
  const Folder folder;
  AdamW<TestType> whole(two_tensors<TestType>());
  for (int n = 0; n < 3; n++) step(whole, n);
  const TrainingState state{3, 12, 1, 2, 4711, {0.5, 1.0 / 3, 1e-7}};
  save_training_state(folder / "state", state, whole);
  for (int n = 3; n < 6; n++) step(whole, n);

  AdamW<TestType> resumed(two_tensors<TestType>(77));  // other numbers: all are put back
  const std::uint64_t version = resumed.trainables()[0].parameter.version();
  const TrainingState back = load_training_state(folder / "state", resumed);
  CHECK(back.step == 3);
  CHECK(back.forwards == 12);
  CHECK(back.epoch == 1);
  CHECK(back.position == 2);
  CHECK(back.tokens == 4711);
  CHECK(back.losses == state.losses);
  CHECK(resumed.steps() == 3);
  CHECK(resumed.trainables()[0].parameter.version() > version);  // what was derived from the old numbers is forgotten
  for (int n = 3; n < 6; n++) step(resumed, n);
  CHECK(same_numbers<TestType>(resumed, {whole.trainables()[0].parameter.value(), whole.trainables()[1].parameter.value()}));
  CHECK(folder.names() == std::set<std::string>{"state"});
}

TEST_CASE("momentum is resumed, too", "[checkpoint]") {
  const Folder folder;
  Sgd<float> whole(two_tensors<float>(), {.momentum = 0.9}), resumed(two_tensors<float>(5), {.momentum = 0.9});
  for (int n = 0; n < 2; n++) step(whole, n);
  save_training_state(folder.path(), {}, whole);
  load_training_state(folder.path(), resumed);
  step(whole, 2), step(resumed, 2);
  CHECK(same_numbers<float>(resumed, {whole.trainables()[0].parameter.value(), whole.trainables()[1].parameter.value()}));
}

TEST_CASE("the state of another run is refused and changes nothing", "[checkpoint]") {
  const Folder folder;
  AdamW<float> saved(two_tensors<float>());
  step(saved, 0);
  save_training_state(folder.path(), {}, saved);
  const auto refused = [&](auto& optimizer) {
    const auto before = optimizer.trainables()[0].parameter.value().clone();
    std::string text;
    try {
      load_training_state(folder.path(), optimizer);
    } catch (const CheckpointError& error) {
      text = error.what();
    }
    CHECK(same_bits(optimizer.trainables()[0].parameter.value(), before));
    CHECK(optimizer.steps() == 0);
    return text;
  };
  using Catch::Contains;
  AdamW<double> other_type(two_tensors<double>());
  CHECK_THAT(refused(other_type), Contains("belongs to another run: 6 tensors do not fit") && Contains("parameter.a is F32 (3, 4), this run wants F64 (3, 4)"));
  auto renamed = two_tensors<float>();
  renamed[1].name = "c";
  AdamW<float> other_name(renamed);
  CHECK_THAT(refused(other_name), Contains("3 tensors do not fit (parameter.c is missing, optimizer.c.exp_avg is missing, optimizer.c.exp_avg_sq is missing)"));
  auto more = two_tensors<float>();
  more.push_back({"c", Parameter<float>(Tensor<float>({1}, 0.0f), true)});
  AdamW<float> longer(more);
  CHECK_THAT(refused(longer), Contains("it holds 6, this run has 9"));
  auto fewer = two_tensors<float>();
  fewer.pop_back();
  AdamW<float> shorter(fewer);
  CHECK_THAT(refused(shorter), Contains("0 tensors do not fit") && Contains("it holds 6, this run has 3"));
}

TEST_CASE("a state that is missing or broken says so", "[checkpoint]") {
  const Folder folder;
  AdamW<float> optimizer(two_tensors<float>());
  const std::string path = folder / "state.safetensors";
  const auto reason = [&] { return format_error(path, [&] { load_training_state(folder.path(), optimizer); }).reason(); };
  CHECK(reason() == "no such file: there is no run to go on with");
  save_training_state(folder.path(), {}, optimizer);
  const std::string whole = read_file(path);
  write_file(path, whole.substr(0, whole.size() - 1));
  CHECK_THAT(reason(), Catch::Contains("data to byte"));
  const float one = 1;
  write_safetensors(path, {{"parameter.a", DType::f32, {}, &one}});
  CHECK_THAT(reason(), Catch::Contains("the metadata \"state\" are missing"));
  write_safetensors(path, {}, {{"state", "{\"step\": 1}"}});
  CHECK_THAT(reason(), Catch::Contains("\"forwards\" is missing"));
  write_safetensors(path, {}, {{"state", "{"}});
  CHECK_THAT(reason(), Catch::Contains("not JSON"));
}

TEST_CASE("a state that cannot be written leaves the one before", "[checkpoint]") {
  const Folder folder;
  AdamW<float> optimizer(two_tensors<float>());
  save_training_state(folder.path(), {.step = 1}, optimizer);
  CHECK_THROWS_AS(save_training_state(folder / "state.safetensors", {.step = 2}, optimizer), FormatError);  // a file stands where the directory should
  CHECK(load_training_state(folder.path(), optimizer).step == 1);
  CHECK(folder.names() == std::set<std::string>{"state.safetensors"});
}
