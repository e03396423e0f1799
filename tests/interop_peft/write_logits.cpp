// SPDX-License-Identifier: Apache-2.0
// write_logits MODEL IDS.safetensors OUT.safetensors [ADAPTER]: the logits (B, T, V) of input_ids (B, T), every id counting, without those of virtual tokens.
#include <fmt/core.h>
#include <peft/adapters/adapters.hpp>
#include <peft/autograd/autograd.hpp>
#include <peft/checkpoint/adapter_file.hpp>
#include <peft/checkpoint/load.hpp>
#include <peft/io/io.hpp>

#include <algorithm>

int main(int argc, char** argv) try {
  if (argc != 4 && argc != 5) {
    fmt::print(stderr, "write_logits MODEL IDS.safetensors OUT.safetensors [ADAPTER]\n");
    return 2;
  }
  auto model = peft::load_model<float>(argv[1]);
  peft::PeftModel tuned{model};
  if (argc == 5) peft::load_adapter(tuned, "default", argv[4]);
  const auto ids = peft::SafetensorsFile::open(argv[2]).read<std::int32_t>("input_ids");
  const std::vector<std::int64_t> lengths(std::size_t(ids.rows()), ids.cols());

  const peft::NoGrad inference;
  auto pass = tuned.pass(peft::Sequences::of_lengths(lengths));
  const peft::FrontedRows rows = peft::with_fronts(pass.fronts, *pass.sequences, ids.span());
  pass.sequences = rows.sequences;
  const peft::PassScope<float> scope(pass);
  const auto& transformer = tuned.model();
  const auto all = transformer.logits(transformer.hidden_states(rows.ids)).value();
  peft::Tensor<float> logits({ids.rows(), ids.cols(), all.cols()});
  for (std::size_t i = 0; i < rows.place.size(); i++)
    std::copy_n(all.data() + rows.place[i] * all.cols(), all.cols(), logits.data() + std::int64_t(i) * all.cols());
  peft::write_safetensors(argv[3], {{"logits", peft::DType::f32, logits.shape(), logits.data()}});
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
