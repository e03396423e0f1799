// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <memory>
#include <optional>

#include "peft/adapters/adapter.hpp"
#include "peft/adapters/own_tensors.hpp"
#include "peft/adapters/target_modules.hpp"

namespace peft {

namespace detail {
template <class M>
struct ScalarOf {
  using type = float;
};
template <class M>
requires requires { typename M::Scalar_; }
struct ScalarOf<M> {
  using type = typename M::Scalar_;
};
/// The last part of each path, once each: how people name modules (q_proj, v_proj, …).
std::vector<std::string> last_names(const std::vector<std::string>& paths);
/// Throws ConfigError, with the nearest name, if a wanted name (`every_name`) or all of them are nowhere among the candidates.
void refuse_unmatched(std::string_view method, const TargetModules& wanted, const std::vector<std::string>& candidates, const std::vector<std::string>& matched,
                      bool every_name, std::string_view kind = "Linear");
/// PEFT's rule: where the task has a head of its own, this trains along and is saved. Adds the names that such heads have to modules_to_save, if one of
/// them is a module here.
void save_head_of_task(std::vector<std::string>& modules_to_save, std::string_view task_type, const std::vector<std::string>& paths);
}  // namespace detail

/// Checks a name for an adapter: letters, digits, '_', '-' and '.', not empty.
void validate_adapter_name(std::string_view name);

/// A base model and its named adapters. Works on a copy of the module tree (handles, a few KiB): attaching and detaching leave no trace on
/// the base. Any module is a base: a Transformer, or a struct of your own with Linears (say `using Scalar_ = double` if it is not float).
template <class M>
class PeftModel {
 public:
  using Model = M;
  using T = typename detail::ScalarOf<M>::type;

  struct Entry {
    int id = 0;
    std::string name, peft_type;
    std::any config;                           // the method's, resolved
    std::map<std::string, std::string> extra;  // keys of its file that this library does not know, as JSON text: kept for saving
    std::shared_ptr<SharedPart<T>> shared;     // what belongs to the adapter and to no site; null for most methods
    std::string task_type = "";                // as the config says them, where it does
    std::vector<std::string> modules_to_save = {};
  };

  explicit PeftModel(M& base) : model_(base) {
    static_assert(Module<M>, "a module needs: static void describe(auto& self, auto&& visit) { visit(\"name\", self.member); … }");
    static_assert(!std::is_const_v<M>, "PeftModel wants a model that is not const: its trainable tensors are shared with the base");
  }
  PeftModel(M&&) = delete;  // a temporary base would be gone: keep the model in a variable of its own

  /// The model with whatever is attached.
  M& model() { return model_; }
  const M& model() const { return model_; }

  /// Puts a fresh adapter on every site that the config selects, makes it the active one if it is the first, and freezes the base.
  /// Throws ConfigError or AdapterError with the nearest valid name; then nothing is attached. `every_name`: each entry of a list of
  /// target_modules must be found (a file may list more than this model has).
  template <AdapterMethod Config>
  void add_adapter(const std::string& name, const Config& wanted, std::uint64_t seed = 0, bool every_name = true) {
    validate_adapter_name(name);
    if (find(name)) throw AdapterError("add_adapter", "an adapter named \"" + name + "\" exists already; delete_adapter it first, or choose another name");
    const ModelInfo info = this->info();
    Config config = resolved(wanted, info.model_type);
    if constexpr (requires { complete(config, info); }) complete(config, info);
    if constexpr (requires {
                    config.modules_to_save;
                    config.task_type;
                  })
      detail::save_head_of_task(config.modules_to_save, config.task_type, site_paths());
    AttachContext context;
    context.id = next_id_++, context.random = Random(seed);
    std::shared_ptr<SharedPart<T>> shared;
    std::vector<std::string> candidates, matched, saved;
    try {
      const auto attach_all = [&](const auto& attach) {
        for_each_site(model_, [&]<class S>(const std::string& path, S& site) {
          context.path = path, context.is_head = is_head(&site);
          if constexpr (requires { config.modules_to_save; })
            if (attach_modules_to_save(config.modules_to_save, site, std::as_const(context))) {
              saved.push_back(path);
              return;
            }
          if constexpr (requires { attachable(config, site); })
            if (attachable(config, site)) candidates.push_back(path);
          if (!attach(site)) return;
          matched.push_back(path);
          if (candidates.empty() || candidates.back() != path) candidates.push_back(path);
        });
      };
      if constexpr (requires { shared_part<T>(config, info, context.random); }) {
        using Part = decltype(shared_part<T>(config, info, context.random));
        auto holder = std::make_shared<SharedPartOf<T, Part>>(shared_part<T>(config, info, context.random.fork(name_hash("shared"))));
        shared = holder;
        attach_all([&](auto& site) {
          if constexpr (requires { attach_adapter(config, holder->part, site, std::as_const(context)); })
            return attach_adapter(config, holder->part, site, std::as_const(context));
          else
            return false;
        });
      } else {
        attach_all([&](auto& site) {
          if constexpr (requires { attach_adapter(config, site, std::as_const(context)); })
            return attach_adapter(config, site, std::as_const(context));
          else
            return false;
        });
      }
      if constexpr (requires { config.target_modules; }) {
        std::string_view kind = "Linear";
        if constexpr (requires { Config::sits_on; }) kind = Config::sits_on;
        const bool own_names = !wanted.target_modules.empty();  // a default may name more than one model of its type has
        detail::refuse_unmatched(Config::peft_type, config.target_modules, candidates, matched, every_name && own_names, kind);
      }
      if constexpr (requires { config.modules_to_save; })
        if (saved.empty() && !config.modules_to_save.empty())
          throw ConfigError("modules_to_save", "\"" + config.modules_to_save[0] + "\" is no module of this model" +
                                                   did_you_mean(config.modules_to_save[0], detail::last_names(site_paths()), "modules here"));
    } catch (...) {
      for_each_site(model_, [&](const std::string&, auto& site) { site.adapters.detach(context.id); });
      throw;
    }
    entries_.push_back({context.id, name, Config::peft_type, config, {}, shared});
    if constexpr (requires { config.task_type; }) entries_.back().task_type = config.task_type;
    if constexpr (requires { config.modules_to_save; }) entries_.back().modules_to_save = config.modules_to_save;
    if (entries_.size() == 1) {
      for_each_parameter(model_, [](const std::string&, auto& parameter) { parameter.set_requires_grad(false); });
      set_adapter(name);
    }
  }

  std::vector<std::string> adapter_names() const {
    std::vector<std::string> names;
    for (const Entry& e : entries_) names.push_back(e.name);
    return names;
  }
  const Entry& entry(std::string_view name) const {
    if (const Entry* e = find(name)) return *e;
    throw AdapterError("adapter", "no adapter is named \"" + std::string(name) + "\"" + did_you_mean(name, adapter_names(), "Adapters here"));
  }
  Entry& entry(std::string_view name) { return const_cast<Entry&>(std::as_const(*this).entry(name)); }

  /// These adapters are active from now on, the first innermost; none: the base alone.
  void set_adapter(const std::vector<std::string>& names) {
    Active ids;
    for (const std::string& name : names) ids.push_back(entry(name).id);
    active_ = std::make_shared<const std::vector<Active>>(1, std::move(ids));
  }
  void set_adapter(const std::string& name) { set_adapter(std::vector<std::string>{name}); }
  void set_adapter(const char* name) { set_adapter(std::string(name)); }
  std::vector<std::string> active_adapters() const {
    std::vector<std::string> names;
    for (int id : active())
      for (const Entry& e : entries_)
        if (e.id == id) names.push_back(e.name);
    return names;
  }
  const Active& active() const { return (*active_)[0]; }

  /// The base in numbers, as methods see it.
  ModelInfo info() const {
    ModelInfo info;
    if constexpr (requires { model_.config.model_type; }) info.model_type = model_.config.model_type;
    if constexpr (requires { model_.config.attention.num_attention_heads; }) {
      const auto& c = model_.config;
      info.vocab_size = c.vocab_size, info.hidden_size = c.hidden_size, info.num_layers = c.num_hidden_layers;
      info.num_attention_heads = c.attention.num_attention_heads, info.num_key_value_heads = c.attention.num_key_value_heads;
      info.head_dim = c.attention.head_dim, info.num_encoder_layers = c.num_encoder_layers;
    }
    if constexpr (requires { model_.config.prefix.moves_positions; }) info.prefix = model_.config.prefix;
    if constexpr (requires { model_.embed_tokens.path; }) info.embedding = model_.embed_tokens.path;
    if constexpr (requires { model_.lm_head.weight.identity() == model_.embed_tokens.weight.identity(); })
      info.head = model_.lm_head.path, info.head_is_tied = model_.lm_head.weight.identity() == model_.embed_tokens.weight.identity();
    for_each_site(model_, [&]<class S>(const std::string& path, const S& site) {
      if constexpr (requires { site.in_features(); }) info.linears.push_back({path, site.in_features(), site.out_features(), is_head(&site)});
    });
    return info;
  }

  void delete_adapter(std::string_view name) {
    const int id = entry(name).id;
    for_each_site(model_, [&](const std::string&, auto& site) { site.adapters.detach(id); });
    std::erase_if(entries_, [&](const Entry& e) { return e.id == id; });
    Active rest = active();
    std::erase(rest, id);
    active_ = std::make_shared<const std::vector<Active>>(1, std::move(rest));
  }

  void rename_adapter(const std::string& name, const std::string& to) {
    Entry& e = entry(name);
    if (name == to) return;
    validate_adapter_name(to);
    if (find(to)) throw AdapterError("rename_adapter", "an adapter named \"" + to + "\" exists already; delete_adapter it first, or choose another name");
    e.name = to;
  }
  /// `by` takes the place of `name`, which is gone: its name, and its place among the active.
  void replace_adapter(const std::string& name, const std::string& by) {
    const int old = entry(name).id, id = entry(by).id;
    if (old == id) return;
    Active ids = active();
    if (std::ranges::find(ids, old) != ids.end()) std::erase(ids, id);
    std::ranges::replace(ids, old, id);
    const std::string kept = name;
    delete_adapter(kept);
    entry(by).name = kept;
    active_ = std::make_shared<const std::vector<Active>>(1, std::move(ids));
  }

  /// The base alone while the guard lives, merged or not.
  class [[nodiscard]] Disabled {
   public:
    explicit Disabled(PeftModel& m) : model_(m), kept_(std::exchange(m.active_, none())) {}
    ~Disabled() { model_.active_ = std::move(kept_); }
    Disabled(const Disabled&) = delete;
    Disabled& operator=(const Disabled&) = delete;

   private:
    PeftModel& model_;
    std::shared_ptr<const std::vector<Active>> kept_;
  };
  Disabled disable_adapters() { return Disabled(*this); }

  /// Throws AdapterError, naming the operation, if one of these is no change of weights.
  void check_mergeable(std::string_view operation, const Active& ids) const {
    for (int id : ids)
      for (const Entry& e : entries_)
        if (e.id == id && e.shared) {
          Pass<T> p;
          e.shared->prepare(p, 0, id);
          const auto some = [](const std::vector<Front>& fronts) { return !fronts.empty() && (!fronts[0].empty() || fronts[0].placed > 0); };
          if (some(p.fronts) || some(p.source_fronts))
            throw AdapterError(operation, "\"" + e.name + "\" (" + e.peft_type +
                                              ") puts something in front of sequences, or among their tokens, so it cannot be merged into weights");
        }
    for (const Entry& e : entries_)
      if (std::ranges::find(ids, e.id) != ids.end())
        for_each_site(model_, [&](const std::string& path, const auto& site) {
          if (!site.adapters.mergeable(e.id))
            throw AdapterError(operation,
                               "\"" + e.name + "\" (" + e.peft_type + ") is at " + path + ", where it is no change of a weight, so it cannot be merged");
        });
  }

  /// Computes dense weights with the active adapters in them and uses these while just they are active. The base is not written to.
  void merge_adapter() {
    check_mergeable("merge_adapter", active());
    for_each_site(model_, [&](const std::string&, auto& site) { site.adapters.merge(site, active()); });
  }
  /// Exact, whatever the method: the copies are dropped.
  void unmerge_adapter() {
    for_each_site(model_, [&](const std::string&, auto& site) { site.adapters.unmerge(); });
  }
  /// A model of its own with the active adapters in its weights; the merged sites are dense, all others share the base's tensors.
  /// `safe`: refuses (AdapterError) weights that are not finite.
  M merge_and_unload(bool safe = false) {
    merge_adapter();
    M merged = model_;  // slots start empty
    std::vector<std::string> broken;
    for_each_site(model_, [&]<class S>(const std::string& path, S& site) {
      const S* fused = site.adapters.merged();
      if (!fused) return;
      if (safe)
        for_each_parameter(*fused, [&](const std::string& name, const auto& p) {
          if (!ops::all_finite(p.value().view())) broken.push_back(name);
        });
      for_each_site(merged, [&]<class U>(const std::string& other, U& target) {
        if constexpr (std::same_as<S, U>)
          if (other == path) target = S(*fused);
      });
    });
    unmerge_adapter();
    if (!broken.empty()) {
      const std::string others = broken.size() > 1 ? " and " + std::to_string(broken.size() - 1) + " more" : "";
      throw AdapterError("merge_and_unload", broken[0] + others + " would not be finite; nothing was merged");
    }
    if constexpr (requires {
                    merged.config.head.tied;
                    merged.lm_head.weight.identity();
                  })
      merged.config.head.tied = merged.lm_head.weight.identity() == merged.embed_tokens.weight.identity();
    return merged;
  }

  /// What one forward over `sequences` fixes, with the default active list. Keep it alive behind a PassScope. Where an active method puts
  /// something in front of sequences, `fronts` says what: whoever runs the pass applies them (with_fronts; of an encoder-decoder's sources,
  /// Transformer::encode). Call it on the forward's tape.
  /// `lists`: active lists of its own, of which each sequence names one.
  Pass<T> pass(std::shared_ptr<const Sequences> sequences = nullptr, bool training = false, std::shared_ptr<const std::vector<Active>> lists = nullptr) const {
    Pass<T> p;
    p.sequences = std::move(sequences), p.lists = std::move(lists), p.training = training;
    return pass(std::move(p));
  }
  /// The same for a pass that says more of itself: what methods prepare may depend on its dropout.
  Pass<T> pass(Pass<T> p) const {
    if (!p.lists) p.lists = active_;
    for (std::size_t list = 0; list < p.lists->size(); list++)
      for (int id : (*p.lists)[list])
        for (const Entry& e : entries_)
          if (e.id == id && e.shared) e.shared->prepare(p, list, id);
    return p;
  }

  /// f(info, parameter) for the base's parameters and then for every adapter's, shared ones at each place.
  template <class F>
  void visit_parameters(F f) {
    for_each_parameter(model_, [&](const std::string& path, auto& parameter) { f(ParameterInfo{path, "", parameter.shape()}, parameter); });
    for (const Entry& e : entries_)
      for_each_adapter_parameter(e.name, [&](const std::string& path, Parameter<T>& parameter) {
        f(ParameterInfo{path, e.name, parameter.shape()}, parameter);
      });
  }
  /// f(path, parameter) for one adapter's tensors: "model.layers.0.self_attn.q_proj.lora_A.weight".
  template <class F>
  void for_each_adapter_parameter(std::string_view name, F f) const {
    const int id = entry(name).id;
    for_each_site(model_, [&](const std::string& path, const auto& site) {
      auto visit = [&](const std::string& inner, Parameter<T>& parameter) { f(path.empty() ? inner : path + "." + inner, parameter); };
      site.adapters.for_each_parameter(id, visit);
    });
    if (const auto& shared = entry(name).shared) shared->visit([&](const std::string& path, Parameter<T>& parameter) { f(path, parameter); });
  }
  /// The same by the names that the tensors have in a file: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".
  template <class F>
  void for_each_adapter_tensor(std::string_view name, F f) const {
    const Entry& e = entry(name);
    const std::string prefix = e.shared ? e.shared->site_prefix() : "base_model.model.";
    for_each_site(model_, [&](const std::string& path, const auto& site) {
      auto visit = [&](const std::string& inner, Parameter<T>& parameter) { f(prefix + (path.empty() ? inner : path + "." + inner), parameter); };
      site.adapters.for_each_parameter(e.id, visit);
    });
    if (e.shared) e.shared->visit([&](const std::string& path, Parameter<T>& parameter) { f(e.shared->file_prefix() + path, parameter); });
  }
  /// What active methods add to the loss; without a value if nothing. Record it on the forward's tape.
  Variable<T> penalty() const {
    Variable<T> sum;
    for (int id : active())
      for (const Entry& e : entries_)
        if (e.id == id && e.shared)
          if (Variable<T> one = e.shared->penalty()) sum = sum ? add(std::move(sum), one) : std::move(one);
    return sum;
  }
  /// To be called before a run of so many optimiser steps (AdaLoRA's budget follows them, if its config names no total_step).
  void begin_run(std::int64_t steps) {
    for (int id : active())
      for (const Entry& e : entries_)
        if (e.id == id && e.shared) e.shared->begin_run(steps);
  }
  /// To be called behind each optimiser step (0, 1, …), while its gradients are still there.
  void after_step(std::int64_t step) {
    for (int id : active())
      for (const Entry& e : entries_)
        if (e.id == id && e.shared) e.shared->after_step(step);
  }
  /// f(name, tensor) for what adapters carry from step to step besides their parameters (AdaLoRA's importances).
  template <class F>
  void for_each_state(F f) const {
    for (const Entry& e : entries_)
      if (e.shared) e.shared->visit_state([&](const std::string& name, Tensor<double>& tensor) { f(e.name + ":" + name, tensor); });
  }
  ParameterCount count_parameters() { return peft::count_parameters(*this); }
  /// As PEFT prints it.
  std::string trainable_parameters() { return to_string(count_parameters()); }

 private:
  static std::shared_ptr<const std::vector<Active>> none() { return std::make_shared<const std::vector<Active>>(1); }
  const Entry* find(std::string_view name) const {
    for (const Entry& e : entries_)
      if (e.name == name) return &e;
    return nullptr;
  }
  std::vector<std::string> site_paths() const {
    std::vector<std::string> paths;
    for_each_site(model_, [&](const std::string& path, const auto&) { paths.push_back(path); });
    return paths;
  }
  template <class S>
  bool is_head(const S* site) const {
    if constexpr (requires {
                    { &model_.lm_head } -> std::same_as<const S*>;
                  })
      return site == &model_.lm_head;
    else
      return false;
  }
  M model_;
  std::vector<Entry> entries_;
  std::shared_ptr<const std::vector<Active>> active_ = none();
  int next_id_ = 0;
};

}  // namespace peft

#if !defined(PEFT_COMPILED)
#include "peft/adapters/impl/peft_model.inl"
#endif
