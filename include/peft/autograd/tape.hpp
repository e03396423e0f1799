// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <new>
#include <utility>

#include "peft/autograd/variable.hpp"

namespace peft {

/// Records while it lives, on its own thread: `Tape tape; auto loss = …; tape.backward(loss);`. Without one, nothing is recorded and
/// every op is inference. Nodes are coarse (one for each fused op) and are closures over just what their backward needs.
class Tape {
 public:
  Tape() : previous_(current_slot()) { current_slot() = this; }
  ~Tape() {
    clear();
    current_slot() = previous_;
  }
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// The innermost tape of this thread; null if nothing records.
  static Tape* current() { return current_slot(); }
  std::size_t nodes() const { return count_; }

  template <class F>
  void record(F backward) {
    struct Closure final : Node {
      F run_;
      explicit Closure(F f) : run_(std::move(f)) {}
    };
    const memory::Block block = memory::take(sizeof(Closure));
    Closure* node = new (block.data) Closure(std::move(backward));
    node->block = block;
    node->run = [](Node* n) { static_cast<Closure*>(n)->run_(); };
    node->destroy = [](Node* n) { static_cast<Closure*>(n)->~Closure(); };
    node->earlier = last_;
    last_ = node;
    count_++;
  }

  /// Seeds `output` with `gradient` and runs the nodes from the last to the first, each freed as soon as it has run.
  template <Scalar T>
  void backward(const Variable<T>& output, Tensor<T> gradient) {
    if (!output.needs_grad()) throw Error("backward", "the output depends on nothing that needs a gradient, or was computed without a Tape");
    if (!(gradient.shape() == output.shape()))
      throw ShapeError("backward", "a gradient of shape " + to_string(gradient.shape()) + " for an output of shape " + to_string(output.shape()));
    output.gradient().add(std::move(gradient));
    // What a node runs is not recorded, unless it opens a tape of its own.
    struct Restore {
      Tape* tape;
      ~Restore() { current_slot() = tape; }
    } restore{current_slot()};
    current_slot() = nullptr;
    while (Node* node = last_) {
      last_ = node->earlier, count_--;
      struct Free {
        Node* node;
        ~Free() { free(node); }
      } guard{node};
      node->run(node);
    }
  }
  /// For a scalar: with gradient 1.
  template <Scalar T>
  void backward(const Variable<T>& loss) {
    if (loss.value().size() != 1) throw ShapeError("backward", "the loss has the shape " + to_string(loss.shape()) + ", a scalar is wanted");
    backward(loss, Tensor<T>(loss.shape(), T(1)));
  }
  void clear() {
    while (Node* node = last_) last_ = node->earlier, count_--, free(node);
  }

 private:
  friend class NoGrad;
  struct Node {
    Node* earlier = nullptr;
    void (*run)(Node*) = nullptr;
    void (*destroy)(Node*) = nullptr;
    memory::Block block;
  };
  static void free(Node* node) {
    const memory::Block block = node->block;
    node->destroy(node);
    memory::give_back(block);
  }
  static Tape*& current_slot() {
    static thread_local Tape* tape = nullptr;
    return tape;
  }
  Tape* previous_;
  Node* last_ = nullptr;
  std::size_t count_ = 0;
};

/// Nothing is recorded while it lives.
class NoGrad {
 public:
  NoGrad() : previous_(std::exchange(Tape::current_slot(), nullptr)) {}
  ~NoGrad() { Tape::current_slot() = previous_; }
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  Tape* previous_;
};

/// The result of an op: y, and, if some input needs a gradient and a tape runs, the node `backward(dy)` behind it.
template <Scalar T, class F>
Variable<T> recorded(Tensor<T> y, bool wanted, F backward) {
  Tape* tape = wanted ? Tape::current() : nullptr;
  if (!tape) return Variable<T>(std::move(y));
  auto gradient = Gradient<T>::make(y.shape());
  tape->record([gradient, backward = std::move(backward)]() mutable {
    if (Tensor<T> dy = gradient.take()) backward(std::move(dy));
  });
  return Variable<T>(std::move(y), std::move(gradient));
}

/// The same for an op whose result `make()` computes again at little cost: later nodes keep that instead of y. It is forgotten before
/// backward(dy) runs, which may then be the only holder of what it kept.
template <Scalar T, class Make, class F>
Variable<T> recorded(Tensor<T> y, bool wanted, Make make, F backward) {
  if (!Tape::current()) return Variable<T>(std::move(y));
  auto recipe = Recipe<T>::of(std::move(make));
  Variable<T> result = recorded(std::move(y), wanted, [recipe, backward = std::move(backward)](Tensor<T> dy) mutable {
    recipe->forget();
    backward(std::move(dy));
  });
  result.set_recipe(std::move(recipe));
  return result;
}

/// True if an op with these inputs would be recorded.
template <class... Wants>
bool recording(Wants... wants) {
  return Tape::current() && (wants || ...);
}

}  // namespace peft
