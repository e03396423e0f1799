// SPDX-License-Identifier: Apache-2.0
#include <peft/tokenizer/tokenizer.hpp>

#include <stdexcept>

#include "model_run.hpp"
#include "parity.hpp"

namespace parity {

namespace {

std::vector<float> few_logits(const peft::PeftModel<peft::Transformer<float>>& tuned) {
  const peft::NoGrad guard;
  const std::vector<std::int32_t> ids = {1, 2, 3, 4, 5};
  auto pass = tuned.pass(peft::Sequences::of_lengths(std::vector<std::int64_t>{5}));
  if (!tuned.model().encoder_layers.empty()) tuned.model().encode(pass, peft::Sequences::of_lengths(std::vector<std::int64_t>{5}), ids);
  const peft::PassScope<float> scope(pass);
  const auto logits = tuned.model().logits(tuned.model().hidden_states(ids)).value();
  return {logits.data(), logits.data() + logits.size()};
}

// Reads a file of this kind as a user would. What is refused leaves the base as it was, to the bit.
void open_as(const std::string& kind, const fs::path& path, const fs::path& base) {
  if (kind == "safetensors") {
    const auto file = peft::SafetensorsFile::open(path.string());
    for (const auto& t : file.tensors())
      if (t.dtype && peft::info(*t.dtype).floating) file.read<float>(t.name);
  } else if (kind == "gguf") {
    peft::load_model<float>(path.string());
  } else if (kind == "tokenizer") {
    peft::load_tokenizer(path.string());
  } else if (kind == "model") {
    peft::load_model<float>(path.string());
  } else if (kind == "adapter") {
    auto model = peft::load_model<float>(base.string());
    peft::PeftModel tuned{model};
    const auto before = few_logits(tuned);
    try {
      peft::load_adapter(tuned, "broken", path.string());
    } catch (const peft::Error&) {
      if (!tuned.adapter_names().empty() || few_logits(tuned) != before) throw std::logic_error("the refused adapter left something behind");
      throw;
    }
  } else {
    throw Skip{"files of the kind " + kind};
  }
}

}  // namespace

void check_malformed(Report& report, const fs::path& root) {
  const fs::path index = root / "malformed" / "index.json";
  if (!fs::exists(index)) return;
  const auto json = peft::Json::read(index.string());
  for (const auto& entry : json.at("files").array()) {
    const std::string path = entry.at("path").string(), expect = entry.at("expect").string(), kind = path.substr(0, path.find('/'));
    const auto* base = entry.get("base");
    report.check("malformed/" + path, [&] {
      Difference d;
      std::string said;
      const std::int64_t before = peft::memory::peak_resident_bytes();
      try {
        // A GGUF file whose container is whole is asked for no more than its container.
        if (kind == "gguf" && expect != "error")
          peft::GgufFile::open((root / "malformed" / path).string());
        else
          open_as(kind, root / "malformed" / path, root / (base && base->is_string() ? base->string() : ""));
      } catch (const peft::Error& error) {
        said = error.what();
      }
      if (peft::memory::peak_resident_bytes() - before > (std::int64_t{256} << 20)) d.fail("took more than 256 MiB of memory");
      if (expect == "error" && said.empty()) d.fail("was read without an error");
      if (expect == "loads" && !said.empty()) d.fail("must load: " + said);
      return d;
    });
  }
}

}  // namespace parity
