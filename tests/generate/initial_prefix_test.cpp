// SPDX-License-Identifier: Apache-2.0
// A prefix that begins as a text reads as the text does.
#include <catch2/catch.hpp>
#include <vector>

#include "peft/adapters/lora/lora.hpp"
#include "peft/adapters/peft_model.hpp"
#include "peft/generate/initial_prefix.hpp"
#include "support/is_near.hpp"
#include "support/tensors.hpp"
#include "support/tiny_transformer.hpp"

namespace initial_prefix {
using namespace peft;
using namespace peft::testing;
using Catch::Contains;

using Tuned = PeftModel<Transformer<double>>;
inline Tensor<double> logits_behind(LanguageModel<double> model, std::span<const std::int32_t> ids) {
  KvCache<double> cache = model.make_cache(std::int64_t(ids.size()));
  const LanguageModel<double>::Continuation all{&cache, ids, 0};
  return model.prefill(std::span(&all, 1));
}

TEST_CASE("what follows a prefix that began as a text is what follows the text", "[generate]") {
  auto base = tiny_transformer<double>({.layers = 3});
  Tuned tuned{base};
  tuned.add_adapter("other", LoraConfig{.r = 2, .target_modules = {"q_proj"}, .init_lora_weights = false});
  tuned.add_adapter("prefix", PrefixTuningConfig{.num_virtual_tokens = 4});
  tuned.set_adapter("prefix");
  const std::vector<std::int32_t> ids = random_ids(9, 11);
  const Tensor<double> drawn = logits_behind(LanguageModel<double>(tuned), std::span(ids).subspan(4));
  tuned.set_adapter("other");  // what is active does not matter: the text is read by the model alone
  initialize_prefix_from_text<double>(tuned, "prefix", std::span(ids).first(6));
  tuned.set_adapter("prefix");
  const Tensor<double> behind_prefix = logits_behind(LanguageModel<double>(tuned), std::span(ids).subspan(4));
  tuned.set_adapter(std::vector<std::string>{});
  const Tensor<double> behind_text = logits_behind(LanguageModel<double>(tuned), ids);
  CHECK_THAT(array(behind_prefix), is_near<double>(array(behind_text), 100));
  CHECK_FALSE(same_bits(drawn, behind_text));
}

TEST_CASE("what cannot begin as a text says so", "[generate]") {
  auto base = tiny_transformer<double>();
  Tuned tuned{base};
  tuned.add_adapter("lora", LoraConfig{.r = 2, .target_modules = {"q_proj"}});
  tuned.add_adapter("prefix", PrefixTuningConfig{.num_virtual_tokens = 4});
  tuned.add_adapter("projected", PrefixTuningConfig{.num_virtual_tokens = 4, .prefix_projection = true});
  const std::vector<std::int32_t> ids = random_ids(4, 11);
  CHECK_THROWS_WITH(initialize_prefix_from_text<double>(tuned, "lora", ids), Contains("type LORA; PREFIX_TUNING is wanted"));
  CHECK_THROWS_WITH(initialize_prefix_from_text<double>(tuned, "projected", ids), Contains("prefix_projection is true"));
  CHECK_THROWS_WITH(initialize_prefix_from_text<double>(tuned, "prefix", std::span(ids).first(3)), Contains("3 tokens; num_virtual_tokens is 4"));
}

}  // namespace initial_prefix
