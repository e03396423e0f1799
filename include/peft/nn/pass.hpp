// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "peft/nn/front.hpp"
#include "peft/nn/kv_cache.hpp"
#include "peft/nn/sequences.hpp"

namespace peft {

/// Adapters by their number, the first innermost.
using Active = std::vector<int>;

/// Keys and values in front of position 0, one pair a layer: prefix tuning, P-Tuning v2.
template <Scalar T>
struct PastKeyValues {
  std::vector<Variable<T>> k, v;  // (prefix, kv_heads · head_dim) each
};

/// What one forward fixes for all sites: the layout of the batch, who is active on which rows, whether it trains, the dropout key. It
/// belongs to the call, not to the model: one base serves several threads, and every sequence has its own active list.
template <Scalar T>
struct Pass {
  struct Rows {
    std::int64_t begin = 0, end = 0;
    const Active* active = nullptr;
  };
  std::shared_ptr<const Sequences> sequences;
  std::shared_ptr<const std::vector<Active>> lists;           // Sequence::active picks one (without sequences: the first); null: everything attached is active
  std::vector<KvCache<T>*> caches;                            // one a sequence, or none
  std::vector<std::shared_ptr<const PastKeyValues<T>>> past;  // one an active list, or none
  std::vector<Front> fronts;                                  // one an active list, or none: who runs the pass applies them (with_fronts)
  std::vector<Front> source_fronts;                           // the same of the sources, which Transformer::encode applies
  std::vector<std::pair<int, Variable<T>>> prepared;          // what an adapter computed once for the whole pass, by the adapter's number
  std::shared_ptr<const Sequences> source_sequences;          // of an encoder-decoder: what sequence i is decoded from is source sequence i
  Variable<T> source;                                         // (source rows, hidden): what the encoder made of it (Transformer::encode)
  Variable<T> relative_bias;                                  // (distances, heads): of the current stack's self-attention,
  std::int64_t relative_zero = 0;                             // and its row of distance 0
  bool training = false;
  bool checkpointing = false;
  std::uint64_t seed = 0, forward = 0;

  /// The same pass over the rows of the source.
  Pass at_source() const {
    Pass pass = *this;
    pass.sequences = source_sequences, pass.source_sequences = nullptr, pass.source = {}, pass.relative_bias = {};
    pass.caches.clear(), pass.past.clear(), pass.fronts.clear(), pass.source_fronts.clear();
    return pass;
  }
  /// What adapter `id` has prepared; null if nothing.
  const Variable<T>* prepared_by(int id) const {
    for (const auto& [who, what] : prepared)
      if (who == id) return &what;
    return nullptr;
  }
  /// Neighbouring sequences with the same list, as one range of rows.
  std::vector<Rows, PoolAllocator<Rows>> ranges() const {
    std::vector<Rows, PoolAllocator<Rows>> all;
    if (!lists || !sequences) return all;
    for (const Sequence& s : sequences->all()) {
      const Active* active = &(*lists)[std::size_t(s.active)];
      if (!all.empty() && *all.back().active == *active)
        all.back().end = s.end;
      else
        all.push_back({s.begin, s.end, active});
    }
    return all;
  }
  /// The dropout of one site: none unless this pass trains.
  Dropping dropping(double p, std::uint64_t site) const {
    Dropping d;
    if (!training || !(p > 0)) return d;
    if (!sequences) throw Error("dropout", "a pass that trains needs sequences, whose rows dropout is drawn by: Sequences::of_lengths names them");
    d.key = {mix(mix(seed, forward), site), p}, d.rows = sequences->row_keys();
    return d;
  }

  /// The pass of this thread; null outside of one.
  static const Pass* current() { return slot(); }

 private:
  template <Scalar U>
  friend class PassScope;
  static const Pass*& slot() {
    static thread_local const Pass* pass = nullptr;
    return pass;
  }
};

/// Makes a pass the current one of this thread while it lives.
template <Scalar T>
class PassScope {
 public:
  explicit PassScope(const Pass<T>& pass) : previous_(Pass<T>::slot()) { Pass<T>::slot() = &pass; }
  ~PassScope() { Pass<T>::slot() = previous_; }
  PassScope(const PassScope&) = delete;
  PassScope& operator=(const PassScope&) = delete;

 private:
  const Pass<T>* previous_;
};

}  // namespace peft
