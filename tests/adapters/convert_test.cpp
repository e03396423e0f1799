// SPDX-License-Identifier: Apache-2.0
// Adapters of other methods turned into LoRAs.
#include "peft/adapters/lora/convert.hpp"

#include "adapters/one_linear.hpp"
#include "peft/adapters/registry.hpp"

using namespace peft;
using namespace peft::testing;
using Catch::Contains;

namespace {
const std::vector<std::string> the_map = {"map"};

struct TwoAndHead {
  using Scalar_ = double;
  Linear<double> a, b, head;
  static void describe(auto& self, auto&& visit) { visit("a", self.a), visit("b", self.b), visit("head", self.head); }
};
struct TableAndMap {
  using Scalar_ = double;
  Embedding<double> table;
  Linear<double> map;
  static void describe(auto& self, auto&& visit) { visit("table", self.table), visit("map", self.map); }
};
Tensor<double> change_of(PeftModel<OneLinear>& tuned, const std::string& name) {
  const auto* lora = tuned.model().map.adapters.get<Lora<double>>(tuned.entry(name).id);
  REQUIRE(lora);
  CHECK(lora->scaling == 1);
  Tensor<double> change({8, 12});
  ops::gemm<double>(1.0, lora->B.value().view(), false, lora->A.value().view(), false, 0.0, change.view());
  return change;
}
}  // namespace

TEST_CASE("a LoRA of full rank does what an adapter of another method does", "[adapters]") {
  const std::vector<AnyAdapterConfig> methods = {LoHaConfig{.r = 3, .alpha = 6, .init_weights = false, .target_modules = the_map},
                                                 LoKrConfig{.r = 3, .alpha = 6, .init_weights = false, .target_modules = the_map},
                                                 VeraConfig{.r = 4, .init_weights = false, .target_modules = the_map},
                                                 VBLoRAConfig{.r = 3, .num_vectors = 9, .vector_length = 4, .init_logits_std = 1, .target_modules = the_map},
                                                 FourierFTConfig{.n_frequency = 5, .scaling = 30, .target_modules = the_map},
                                                 C3AConfig{.block_size = 4, .target_modules = the_map},
                                                 HiraConfig{.r = 3, .init_weights = false, .target_modules = the_map},
                                                 MissConfig{.r = 4, .init_weights = false, .target_modules = the_map},
                                                 GraloraConfig{.r = 4, .alpha = 8, .gralora_k = 2, .init_weights = false, .target_modules = the_map},
                                                 DeloraConfig{.r = 3, .delora_lambda = 6, .init_weights = false, .target_modules = the_map},
                                                 ShiraConfig{.r = 1, .init_weights = false, .target_modules = the_map},
                                                 OFTConfig{.oft_block_size = 4, .init_weights = false, .target_modules = the_map},
                                                 BOFTConfig{.boft_block_size = 4, .init_weights = false, .target_modules = the_map},
                                                 HRAConfig{.r = 3, .init_weights = false, .target_modules = the_map},
                                                 AdaLoraConfig{.init_r = 3, .lora_alpha = 6, .init_lora_weights = false, .target_modules = the_map},
                                                 LoraConfig{.r = 3, .target_modules = the_map, .init_lora_weights = false, .use_dora = true},
                                                 LoraConfig{.r = 3, .target_modules = the_map, .init_lora_weights = "pissa"},
                                                 LoraConfig{.r = 3, .target_modules = the_map, .init_lora_weights = "loftq_q8_0"},
                                                 IA3Config{.init_ia3_weights = false, .target_modules = the_map},  // and the bias, which B's bias changes
                                                 RoadConfig{.group_size = 4, .init_weights = false, .target_modules = the_map}};
  for (const AnyAdapterConfig& method : methods)
    std::visit(
        [](const auto& config) {
          CAPTURE(config.peft_type);
          OneLinear base(32, 8);
          PeftModel tuned{base};
          tuned.add_adapter("from", config, 3);
          for (const ops::KeptRank& keep : {ops::KeptRank{.r = 8}, ops::KeptRank{.energy = 1}}) {
            const std::vector<ConvertedSite> report = convert_to_lora(tuned, "from", "to", keep);
            REQUIRE(report.size() == 1);
            CHECK(report[0].lost < 1e-12);
            const Variable<double> x(normal({5, 32}, 3));
            const auto run = [&](const std::string& name) {
              tuned.set_adapter(name);
              const Pass<double> pass = tuned.pass();
              const PassScope<double> scope(pass);
              return tuned.model().map(x).value();
            };
            CHECK_THAT(array(run("to")), is_near<double>(array(run("from")), 200));
            tuned.delete_adapter("to");
          }
        },
        method);
}

TEST_CASE("a LoRA of less rank lacks the smallest singular values, and an energy chooses the rank", "[adapters]") {
  OneLinear base;
  PeftModel tuned{base};
  tuned.add_adapter("from", LoHaConfig{.r = 3, .alpha = 6, .init_weights = false, .target_modules = the_map}, 3);
  const std::vector<ConvertedSite> all = convert_to_lora(tuned, "from", "all", {.r = 8});
  const Tensor<double> delta = change_of(tuned, "all");
  const ops::LowRank known = ops::low_rank(delta.view(), {.r = 8});
  double total = 0, tail = 0;
  for (const double s : known.singular) total += s * s;
  for (std::size_t k = 3; k < 8; k++) tail += known.singular[k] * known.singular[k];
  const std::vector<ConvertedSite> low = convert_to_lora(tuned, "from", "low", {.r = 3});
  CHECK(low[0].path == "layers.0.map");
  CHECK(low[0].r == 3);
  CHECK(low[0].lost == Approx(std::sqrt(tail / total)).epsilon(1e-9));
  CHECK(low[0].lost > 0.01);
  const Array off = array(change_of(tuned, "low")) - array(delta);
  CHECK(xt::sum(off * off)() == Approx(tail).epsilon(1e-9));
  const double share = 1 - tail / total;
  CHECK(convert_to_lora(tuned, "from", "least", {.energy = share - 1e-9})[0].r == 3);
  CHECK(convert_to_lora(tuned, "from", "more", {.energy = share + 1e-9})[0].r == 4);
  const auto& config = std::any_cast<const LoraConfig&>(tuned.entry("more").config);
  CHECK(config.r == 4);
  CHECK(config.lora_alpha == 4);
  CHECK(config.target_modules.text() == "map");
}

TEST_CASE("each Linear has the rank that it needs, and saved modules come along", "[adapters]") {
  const auto linear = [](const char* path, std::uint64_t seed) { return Linear<double>(Parameter<double>(random_normal<double>({8, 8}, seed)), {}, path); };
  TwoAndHead base{linear("layers.0.a", 1), linear("layers.0.b", 2), linear("head", 3)};
  PeftModel tuned{base};
  LoraConfig from{.r = 2, .target_modules = {"a", "b"}, .init_lora_weights = false, .rank_pattern = {{"b", 5}}, .modules_to_save = {"head"}};
  from.task_type = "SEQ_CLS";
  tuned.add_adapter("from", from, 1);
  const auto* saved = tuned.model().head.adapters.get<OwnTensors<Linear<double>>>(tuned.entry("from").id);
  REQUIRE(saved);
  saved->own.weight.assign(random_normal<double>({8, 8}, 9));
  const auto report = convert_to_lora(tuned, "from", "to", {.energy = 1 - 1e-12});
  REQUIRE(report.size() == 2);
  CHECK(report[0].r == 2);
  CHECK(report[1].r == 5);
  const auto& config = std::any_cast<const LoraConfig&>(tuned.entry("to").config);
  CHECK(config.r == 5);
  CHECK(config.rank_pattern == Patterns<std::int64_t>{{"layers.0.a", 2}});
  CHECK(config.alpha_pattern == Patterns<double>{{"layers.0.a", 2}});
  CHECK(config.task_type == "SEQ_CLS");
  CHECK(same_bits(tuned.model().head.adapters.get<OwnTensors<Linear<double>>>(tuned.entry("to").id)->own.weight.value(), saved->own.weight.value()));
}

TEST_CASE("what is no change of a Linear, and a rank that it has not, is not converted", "[adapters]") {
  OneLinear base;
  PeftModel tuned{base};
  tuned.add_adapter("from", LoHaConfig{.r = 3, .target_modules = the_map});
  const auto refused = [&](const ops::KeptRank& keep, const std::string& text) {
    CHECK_THROWS_WITH(convert_to_lora(tuned, "from", "to", keep), Contains(text));
    CHECK(tuned.adapter_names() == std::vector<std::string>{"from"});
  };
  refused({.r = 9}, "a rank of 9; layers.0.map has one of at most 8");
  refused({.r = 0}, "a rank of at least 1 is wanted");
  refused({.energy = 1.5}, "an energy of 1.5");
  CHECK_THROWS_WITH(convert_to_lora(tuned, "form", "to", {.r = 2}), Contains("no adapter is named \"form\""));
  CHECK_THROWS_WITH(convert_to_lora(tuned, "from", "from", {.r = 2}), Contains("exists already"));
  TableAndMap both{{Parameter<double>(normal({9, 4})), 1, -1, "table"}, {Parameter<double>(normal({4, 4})), {}, "map"}};
  PeftModel other{both};
  other.add_adapter("table", LoraConfig{.r = 2, .target_modules = {"table", "map"}});
  CHECK_THROWS_WITH(convert_to_lora(other, "table", "to", {.r = 2}), Contains("\"table\" (LORA) changes table, which is no Linear"));
}
