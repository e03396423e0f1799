// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/core.h>

#include <charconv>
#include <cmath>

#include "peft/generate/completion.hpp"

namespace peft {

PEFT_INLINE void validate(const CompletionRequest& r, CompletionBounds bounds) {
  const auto allow = [](bool fine, const char* field, const auto& value, const char* allowed) {
    if (!fine) throw ConfigError("completion", fmt::format("{} = {}; allowed: {}", field, value, allowed));
  };
  const auto between = [](double x, double low, double high) { return x >= low && x <= high; };
  if (r.prompt.empty()) throw ConfigError("completion", "the prompt is missing; give a string, a list of strings, of tokens, or of lists of tokens");
  for (std::size_t i = 0; i < r.prompt.size(); i++)
    if (const auto* ids = std::get_if<std::vector<std::int32_t>>(&r.prompt[i]); ids && ids->empty())
      throw ConfigError("completion", fmt::format("prompt number {} has no tokens; it needs at least one", i));
  allow(r.max_tokens >= 0, "max_tokens", r.max_tokens, "0 or more");
  allow(r.max_tokens > 0 || r.echo, "max_tokens", r.max_tokens, "1 or more, or 0 with echo");
  if (bounds == CompletionBounds::tutorial) {
    allow(between(r.temperature, 0, 1), "temperature", r.temperature, "0 to 1");
    allow(between(r.frequency_penalty, 0, 1), "frequency_penalty", r.frequency_penalty, "0 to 1");
    allow(between(r.presence_penalty, 0, 1), "presence_penalty", r.presence_penalty, "0 to 1");
  }
  allow(between(r.temperature, 0, 2), "temperature", r.temperature, "0 to 2");
  allow(between(r.top_p, 0, 1), "top_p", r.top_p, "0 to 1");
  allow(between(r.frequency_penalty, -2, 2), "frequency_penalty", r.frequency_penalty, "-2 to 2");
  allow(between(r.presence_penalty, -2, 2), "presence_penalty", r.presence_penalty, "-2 to 2");
  for (const auto& [token, bias] : r.logit_bias) {
    allow(token >= 0, "logit_bias's token", token, "token ids, 0 or more");
    allow(between(bias, -100, 100), "logit_bias", bias, "-100 to 100");
  }
  allow(r.n >= 1 && r.n <= 128, "n", r.n, "1 to 128");
  if (r.best_of) {
    allow(*r.best_of >= 1 && *r.best_of <= 20, "best_of", *r.best_of, "1 to 20");
    if (*r.best_of < r.n) throw ConfigError("completion", fmt::format("best_of = {}; allowed: n, which is {}, or more", *r.best_of, r.n));
  }
  allow(r.stop.size() <= 4, "the number of stop strings", r.stop.size(), "up to 4");
  for (const std::string& s : r.stop)
    if (s.empty()) throw ConfigError("completion", "stop has an empty string; it would end every text at once");
  if (r.logprobs) allow(*r.logprobs >= 0 && *r.logprobs <= 5, "logprobs", *r.logprobs, "0 to 5");
  if (r.timeout) allow(*r.timeout >= 1, "timeout", *r.timeout, "milliseconds, 1 or more");
}

namespace detail {

inline std::vector<std::int32_t> completion_tokens(const Json& list) {
  std::vector<std::int32_t> ids;
  for (const Json& id : list.array()) {
    if (!id.is_integer() || id.integer() < 0 || id.integer() > INT32_MAX) throw ConfigError("completion", "prompt: " + id.dump() + " is no token id");
    ids.push_back(std::int32_t(id.integer()));
  }
  return ids;
}
// A string, strings, tokens, or lists of tokens.
inline std::vector<CompletionPrompt> completion_prompts(const Json& json) {
  if (json.is_string()) return {json.string()};
  if (!json.is_array() || json.size() == 0)
    throw ConfigError("completion", "prompt = " + json.dump().substr(0, 40) + "; allowed: a string, or a list of strings, of tokens, or of lists of tokens");
  if (json.array()[0].is_number()) return {completion_tokens(json)};
  std::vector<CompletionPrompt> all;
  for (const Json& one : json.array()) {
    if (one.is_string() != json.array()[0].is_string() || (!one.is_string() && !one.is_array()))
      throw ConfigError("completion", "prompt mixes kinds: " + one.dump().substr(0, 40) + "; allowed: strings alone, or lists of tokens alone");
    if (one.is_string())
      all.emplace_back(one.string());
    else
      all.emplace_back(completion_tokens(one));
  }
  return all;
}

}  // namespace detail

PEFT_INLINE CompletionRequest completion_request(const Json& json, CompletionBounds bounds) {
  if (!json.is_object()) throw ConfigError("completion", "a request is a JSON object, here is " + json.dump().substr(0, 40));
  CompletionRequest r;
  if (bounds == CompletionBounds::tutorial) r.temperature = 0.5;
  struct Field {
    const char* name;
    void (*take)(const Json&, CompletionRequest&);
  };
  static const Field fields[] = {
      {"engine", [](const Json& v, CompletionRequest& c) { c.engine = v.string(); }},
      {"model", [](const Json& v, CompletionRequest& c) { c.engine = v.string(); }},
      {"prompt", [](const Json& v, CompletionRequest& c) { c.prompt = detail::completion_prompts(v); }},
      {"max_tokens", [](const Json& v, CompletionRequest& c) { c.max_tokens = v.integer(); }},
      {"temperature", [](const Json& v, CompletionRequest& c) { c.temperature = v.number(); }},
      {"top_p", [](const Json& v, CompletionRequest& c) { c.top_p = v.number(); }},
      {"frequency_penalty", [](const Json& v, CompletionRequest& c) { c.frequency_penalty = v.number(); }},
      {"presence_penalty", [](const Json& v, CompletionRequest& c) { c.presence_penalty = v.number(); }},
      {"logit_bias",
       [](const Json& v, CompletionRequest& c) {
         for (const auto& [key, bias] : v.object()) {
           std::int32_t token = -1;
           const auto end = std::from_chars(key.data(), key.data() + key.size(), token);
           if (end.ec != std::errc() || end.ptr != key.data() + key.size()) throw ConfigError("completion", "logit_bias: \"" + key + "\" is no token id");
           c.logit_bias.emplace_back(token, bias.number());
         }
       }},
      {"n", [](const Json& v, CompletionRequest& c) { c.n = v.integer(); }},
      {"best_of", [](const Json& v, CompletionRequest& c) { c.best_of = v.integer(); }},
      {"stop",
       [](const Json& v, CompletionRequest& c) {
         if (v.is_string())
           c.stop = {v.string()};
         else
           for (const Json& s : v.array()) c.stop.push_back(s.string());
       }},
      {"echo", [](const Json& v, CompletionRequest& c) { c.echo = v.boolean(); }},
      {"logprobs", [](const Json& v, CompletionRequest& c) { c.logprobs = v.integer(); }},
      {"timeout", [](const Json& v, CompletionRequest& c) { c.timeout = v.integer(); }},
      {"seed",
       [](const Json& v, CompletionRequest& c) {
         if (v.integer() < 0) throw ConfigError("completion", fmt::format("seed = {}; allowed: 0 or more", v.integer()));
         c.seed = std::uint64_t(v.integer());
       }},
      {"suffix", [](const Json&,
                    CompletionRequest&) { throw NotSupported("completion", "suffix: a text that is given behind the completion is not built; leave it out"); }},
      {"user", [](const Json& v, CompletionRequest&) { (void)v.string(); }},
      {"stream", [](const Json& v, CompletionRequest&) { (void)v.boolean(); }},
  };
  for (const auto& [name, value] : json.object()) {
    if (value.is_null()) continue;
    const std::string& key = name;
    const auto known = std::find_if(std::begin(fields), std::end(fields), [&](const Field& f) { return key == f.name; });
    if (known == std::end(fields)) {
      std::vector<std::string> names;
      for (const Field& f : fields) names.emplace_back(f.name);
      throw ConfigError("completion", "\"" + key + "\" is no field of a request" + did_you_mean(key, names, "fields", 32));
    }
    try {
      known->take(value, r);
    } catch (const ConfigError& error) {
      if (std::string_view(error.what()).starts_with("[completion]")) throw;
      throw ConfigError("completion", key + ": " + error.what());
    }
  }
  if (json.contains("engine") && json.contains("model")) throw ConfigError("completion", "engine and model are two names for one thing: give one of them");
  validate(r, bounds);
  return r;
}

PEFT_INLINE Json to_json(const CompletionResponse& response) {
  Json choices = Json::make_array();
  for (const CompletionChoice& choice : response.choices) {
    Json one = Json::make_object();
    one.set("text", Json(choice.text));
    one.set("index", Json(choice.index));
    Json report;
    if (choice.logprobs) {
      Json tokens = Json::make_array(), values = Json::make_array(), tops = Json::make_array(), offsets = Json::make_array();
      for (std::size_t i = 0; i < choice.logprobs->tokens.size(); i++) {
        const auto& value = choice.logprobs->token_logprobs[i];
        tokens.push_back(Json(choice.logprobs->tokens[i]));
        values.push_back(value ? Json(*value) : Json());
        Json top;
        if (value) {
          top = Json::make_object();
          for (const auto& [token, logprob] : choice.logprobs->top_logprobs[i])
            if (!top.contains(token)) top.set(token, Json(logprob));
        }
        tops.push_back(std::move(top));
        offsets.push_back(Json(choice.logprobs->text_offset[i]));
      }
      report = Json::make_object();
      report.set("tokens", std::move(tokens)), report.set("token_logprobs", std::move(values));
      report.set("top_logprobs", std::move(tops)), report.set("text_offset", std::move(offsets));
    }
    one.set("logprobs", std::move(report));
    one.set("finish_reason", Json(std::string(name(choice.finish_reason))));
    choices.push_back(std::move(one));
  }
  Json usage = Json::make_object();
  usage.set("prompt_tokens", Json(response.prompt_tokens)), usage.set("completion_tokens", Json(response.completion_tokens));
  usage.set("total_tokens", Json(response.prompt_tokens + response.completion_tokens));
  Json json = Json::make_object();
  json.set("id", Json(response.id)), json.set("object", Json("text_completion")), json.set("created", Json(response.created));
  json.set("model", Json(response.model)), json.set("choices", std::move(choices)), json.set("usage", std::move(usage));
  return json;
}

}  // namespace peft
