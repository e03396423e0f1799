// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <any>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "peft/core/dtype.hpp"
#include "peft/core/random.hpp"
#include "peft/freeze/policy.hpp"
#include "peft/nn/adapter_slot.hpp"
#include "peft/nn/front.hpp"

namespace peft {

/// What a method's `attach_adapter(config, site, context)` is told. It puts its adapter into the site's slot under `id` and says whether the
/// site was one of its targets. Overloads for the kinds of site that the method knows are all that it writes; others are passed over.
struct AttachContext {
  int id = 0;
  std::string path;      // the site's Hugging Face path
  bool is_head = false;  // the output head
  Random random{0};      // fork it by path, so that a site's numbers do not depend on the others
  Random at_site() const;
};

/// FNV-1a: a number for a name, the same on every machine.
inline std::uint64_t name_hash(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325ull;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}
inline Random AttachContext::at_site() const { return random.fork(name_hash(path)); }

/// While one lives, what methods draw on this thread is left as it is in memory: a file is going to fill it.
class [[nodiscard]] LeaveUnfilled {
 public:
  LeaveUnfilled() : before_(std::exchange(on_, true)) {}
  ~LeaveUnfilled() { on_ = before_; }
  LeaveUnfilled(const LeaveUnfilled&) = delete;
  LeaveUnfilled& operator=(const LeaveUnfilled&) = delete;
  static bool on() { return on_; }

 private:
  static inline thread_local bool on_ = false;
  bool before_;
};

/// A method, as add_adapter takes it: its config has a name in PEFT's files, and `resolved(config, model_type)` checks and completes it.
template <class C>
concept AdapterMethod = requires(const C& config) {
  { C::peft_type } -> std::convertible_to<std::string_view>;
  { resolved(config, std::string_view()) } -> std::same_as<C>;
};

/// The base model in numbers, for a method that is more than the sum of its sites. What a model does not say is 0.
struct ModelInfo {
  struct LinearSite {
    std::string path;
    std::int64_t in_features = 0, out_features = 0;
    bool is_head = false;
  };
  std::string model_type;
  std::int64_t vocab_size = 0, hidden_size = 0, num_layers = 0, num_attention_heads = 0, num_key_value_heads = 0, head_dim = 0;
  std::int64_t num_encoder_layers = 0;  // of an encoder-decoder, whose decoder has num_layers
  std::string embedding;                // the path of the input embedding
  std::string head;                     // of the output head,
  bool head_is_tied = false;            // which shares its tensor with the embedding
  PrefixConvention prefix;              // how it counts and makes what stands in front
  std::vector<LinearSite> linears;
};

/// One tensor on its way between an adapter's parameters and its file: its name there, its numbers, its type there.
struct AdapterTensor {
  std::string name;
  Tensor<float> values;
  DType dtype = DType::f32;
};
using AdapterTensors = std::vector<AdapterTensor>;
inline AdapterTensor* find_tensor(AdapterTensors& tensors, std::string_view name) {
  for (AdapterTensor& t : tensors)
    if (t.name == name) return &t;
  return nullptr;
}

namespace detail {
template <class P, class T>
concept PreparesPass = requires(const P& part, Pass<T>& pass) {
  part.prepare(pass, std::size_t(0), 0);
};
template <class P>
concept HasPenalty = requires(const P& part) {
  part.penalty();
};
template <class P>
concept ActsAfterStep = requires(P& part) {
  part.after_step(std::int64_t(0));
};
}  // namespace detail

/// What belongs to an adapter as a whole and not to one site: a prompt, shared projections, an allocator of ranks. The method's own struct P
/// (a Module, made by `shared_part<T>(config, info, random)`) stands behind it. P may have
///     prepare(Pass<T>&, list, id) const   before each forward: prefixes, virtual tokens, tensors that are computed once
///     penalty() const                     a Variable that the trainer adds to the loss
///     begin_run(steps)                    before a run's first step, of so many
///     after_step(step)                    called with the gradients of step 0, 1, … still there, behind the optimiser
///     for_each_state(f)                   f(name, tensor of double) for what it carries from step to step: part of a run's state
///     to_file(AdapterTensors&) const, from_file(AdapterTensors&)   where the file is not just the parameters (to_file(std::any& config, …) where
///                                         they change the config that is written)
template <Scalar T>
class SharedPart {
 public:
  using Visitor = FunctionRef<void(const std::string&, Parameter<T>&)>;
  using StateVisitor = FunctionRef<void(const std::string&, Tensor<double>&)>;
  virtual ~SharedPart() = default;
  virtual void visit(Visitor f) = 0;
  virtual std::string file_prefix() const = 0;  // of its tensors' names,
  virtual std::string site_prefix() const = 0;  // and of those that the adapter has at sites
  virtual void prepare(Pass<T>& pass, std::size_t list, int id) const = 0;
  virtual Variable<T> penalty() const = 0;  // without a value: none
  virtual void begin_run(std::int64_t steps) = 0;
  virtual void after_step(std::int64_t step) = 0;
  virtual void visit_state(StateVisitor f) = 0;
  virtual void to_file(std::any& config, AdapterTensors& tensors) const = 0;
  virtual void from_file(AdapterTensors& tensors) = 0;
};
template <Scalar T, class P>
class SharedPartOf final : public SharedPart<T> {
 public:
  explicit SharedPartOf(P p) : part(std::move(p)) {}
  void visit(typename SharedPart<T>::Visitor f) override { peft::for_each_parameter(part, f); }
  std::string file_prefix() const override {
    if constexpr (requires { P::file_prefix; })
      return P::file_prefix;
    else
      return "base_model.";
  }
  std::string site_prefix() const override {
    if constexpr (requires { P::site_prefix; })
      return P::site_prefix;
    else
      return "base_model.model.";
  }
  void prepare([[maybe_unused]] Pass<T>& pass, [[maybe_unused]] std::size_t list, [[maybe_unused]] int id) const override {
    if constexpr (detail::PreparesPass<P, T>) part.prepare(pass, list, id);
  }
  Variable<T> penalty() const override {
    if constexpr (detail::HasPenalty<P>)
      return part.penalty();
    else
      return {};
  }
  void begin_run([[maybe_unused]] std::int64_t steps) override {
    if constexpr (requires { part.begin_run(steps); }) part.begin_run(steps);
  }
  void after_step([[maybe_unused]] std::int64_t step) override {
    if constexpr (detail::ActsAfterStep<P>) part.after_step(step);
  }
  void visit_state([[maybe_unused]] typename SharedPart<T>::StateVisitor f) override {
    if constexpr (requires { part.for_each_state(f); }) part.for_each_state(f);
  }
  void to_file([[maybe_unused]] std::any& config, [[maybe_unused]] AdapterTensors& tensors) const override {
    if constexpr (requires { part.to_file(tensors); }) part.to_file(tensors);
    if constexpr (requires { part.to_file(config, tensors); }) part.to_file(config, tensors);
  }
  void from_file([[maybe_unused]] AdapterTensors& tensors) override {
    if constexpr (requires { part.from_file(tensors); }) part.from_file(tensors);
  }
  P part;
};

/// A tensor that follows from parameters, remembered while these do not change and nobody wants their gradient: generation computes it once.
template <Scalar T>
class Derived {
 public:
  template <class F>
  Variable<T> operator()(std::initializer_list<const Parameter<T>*> from, F compute) const {
    bool wanted = false;
    std::uint64_t version = 0;
    for (const Parameter<T>* p : from) wanted = wanted || p->requires_grad(), version += p->version();
    if (recording(wanted)) return compute();
    const std::lock_guard<std::mutex> lock(state_->mutex);
    if (!state_->value || state_->version != version) {
      const NoGrad guard;
      state_->value = compute().value(), state_->version = version;
    }
    return Variable<T>(state_->value);
  }

 private:
  struct State {
    std::mutex mutex;
    Tensor<T> value;
    std::uint64_t version = 0;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace peft
