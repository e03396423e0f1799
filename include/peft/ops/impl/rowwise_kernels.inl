// SPDX-License-Identifier: Apache-2.0
// Ops that read and write memory once: norms, activations, rotations, sums. A row's result depends on the row alone.
namespace peft::ops::PEFT_ISA {

// Σ f over a row in a fixed order: four lanes-wide partial sums, then a tree.
template <class T>
PEFT_TARGET T row_dot(const T* a, const T* b, std::int64_t n) {
  V<T> s0{}, s1{}, s2{}, s3{};
  std::int64_t i = 0;
  for (; i + 4 * L<T> <= n; i += 4 * L<T>) {
    s0 += load(a + i) * load(b + i), s1 += load(a + i + L<T>) * load(b + i + L<T>);
    s2 += load(a + i + 2 * L<T>) * load(b + i + 2 * L<T>), s3 += load(a + i + 3 * L<T>) * load(b + i + 3 * L<T>);
  }
  for (; i + L<T> <= n; i += L<T>) s0 += load(a + i) * load(b + i);
  T total = sum<T>((s0 + s1) + (s2 + s3));
  for (; i < n; i++) total += a[i] * b[i];
  return total;
}
template <class T>
PEFT_TARGET T row_sum(const T* a, std::int64_t n) {
  V<T> s0{};
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) s0 += load(a + i);
  T total = sum<T>(s0);
  for (; i < n; i++) total += a[i];
  return total;
}
// Σ (a[i] − mean)²
template <class T>
PEFT_TARGET T row_variance(const T* a, T mean, std::int64_t n) {
  V<T> s0{};
  const V<T> m = broadcast(mean);
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) {
    const V<T> d = load(a + i) - m;
    s0 += d * d;
  }
  T total = sum<T>(s0);
  for (; i < n; i++) total += (a[i] - mean) * (a[i] - mean);
  return total;
}

// y = alpha · (x + shift) ∘ (w + offset) + b;  w, b may be null
template <class T>
PEFT_TARGET void row_affine(T* y, const T* x, T shift, T alpha, const T* w, T offset, const T* b, std::int64_t n) {
  const V<T> a = broadcast(alpha), s = broadcast(shift), o = broadcast(offset);
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) {
    V<T> v = (load(x + i) + s) * a * (load(w + i) + o);
    if (b) v += load(b + i);
    store(y + i, v);
  }
  for (; i < n; i++) y[i] = (x[i] + shift) * alpha * (w[i] + offset) + (b ? b[i] : T(0));
}

// The norms' backward: dx = inv · (g − mean_g − x̂ · mean_gx), g = dy ∘ (w + offset), x̂ = (x − mean) · inv
template <class T>
PEFT_TARGET void row_norm_backward(T* dx, bool accumulate, const T* dy, const T* x, const T* w, T offset, T mean, T inv, bool centred, std::int64_t n) {
  V<T> sg{}, sgx{};
  const V<T> m = broadcast(mean), r = broadcast(inv), o = broadcast(offset);
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) {
    const V<T> g = load(dy + i) * (load(w + i) + o), h = (load(x + i) - m) * r;
    sg += g, sgx += g * h;
  }
  T total_g = sum<T>(sg), total_gx = sum<T>(sgx);
  for (; i < n; i++) {
    const T g = dy[i] * (w[i] + offset);
    total_g += g, total_gx += g * ((x[i] - mean) * inv);
  }
  const T mean_g = centred ? total_g / T(n) : T(0), mean_gx = total_gx / T(n);
  const V<T> mg = broadcast(mean_g), mgx = broadcast(mean_gx);
  for (i = 0; i + L<T> <= n; i += L<T>) {
    const V<T> g = load(dy + i) * (load(w + i) + o), h = (load(x + i) - m) * r;
    V<T> d = r * (g - mg - h * mgx);
    if (accumulate) d += load(dx + i);
    store(dx + i, d);
  }
  for (; i < n; i++) {
    const T d = inv * (dy[i] * (w[i] + offset) - mean_g - (x[i] - mean) * inv * mean_gx);
    dx[i] = accumulate ? dx[i] + d : d;
  }
}
// dw += dy ∘ (x − mean) · inv
template <class T>
PEFT_TARGET void row_norm_weight(T* dw, const T* dy, const T* x, T mean, T inv, std::int64_t n) {
  const V<T> m = broadcast(mean), r = broadcast(inv);
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) store(dw + i, load(dw + i) + load(dy + i) * ((load(x + i) - m) * r));
  for (; i < n; i++) dw[i] += dy[i] * ((x[i] - mean) * inv);
}

// y = alpha · x + beta · y (beta = 0: y need not be initialised)
template <class T>
PEFT_TARGET void row_scale_add(T* y, T alpha, const T* x, T beta, std::int64_t n) {
  const V<T> a = broadcast(alpha), b = broadcast(beta);
  std::int64_t i = 0;
  if (beta == T(0)) {
    for (; i + L<T> <= n; i += L<T>) store(y + i, a * load(x + i));
    for (std::int64_t rest = n % L<T>; rest > 0; rest--) y[n - rest] = alpha * x[n - rest];
  } else {
    for (; i + L<T> <= n; i += L<T>) store(y + i, a * load(x + i) + b * load(y + i));
    for (; i < n; i++) y[i] = alpha * x[i] + beta * y[i];
  }
}
template <class T>
PEFT_TARGET void row_add(T* y, const T* a, const T* b, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) store(y + i, load(a + i) + load(b + i));
  for (; i < n; i++) y[i] = a[i] + b[i];
}
template <class T>
PEFT_TARGET void row_multiply(T* y, const T* a, const T* b, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) store(y + i, load(a + i) * load(b + i));
  for (; i < n; i++) y[i] = a[i] * b[i];
}

// Tails shorter than a register go through one of their own, so that every element sees the same arithmetic.
template <class T, Activation f>
PEFT_TARGET void row_activation(std::integral_constant<Activation, f>, T* y, const T* x, std::int64_t n) {
  V<T> value, slope;
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) {
    evaluate<T, f>(load(x + i), value, slope);
    store(y + i, value);
  }
  if (i < n) {
    evaluate<T, f>(load_part(x + i, n - i), value, slope);
    store_part(y + i, value, n - i);
  }
}
template <class T, Activation f>
PEFT_TARGET void row_activation_backward(std::integral_constant<Activation, f>, T* dx, bool accumulate, const T* dy, const T* x, std::int64_t n) {
  V<T> value, slope;
  for (std::int64_t i = 0; i < n; i += L<T>) {
    const std::int64_t left = n - i;
    const bool whole = left >= L<T>;
    evaluate<T, f>(whole ? load(x + i) : load_part(x + i, left), value, slope);
    V<T> d = slope * (whole ? load(dy + i) : load_part(dy + i, left));
    if (accumulate) d += whole ? load(dx + i) : load_part(dx + i, left);
    if (whole)
      store(dx + i, d);
    else
      store_part(dx + i, d, left);
  }
}
template <class T, Activation f>
PEFT_TARGET void row_gated(std::integral_constant<Activation, f>, T* y, const T* gate, const T* up, std::int64_t n) {
  V<T> value, slope;
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) {
    evaluate<T, f>(load(gate + i), value, slope);
    store(y + i, value * load(up + i));
  }
  if (i < n) {
    evaluate<T, f>(load_part(gate + i, n - i), value, slope);
    store_part(y + i, value * load_part(up + i, n - i), n - i);
  }
}
template <class T, Activation f>
PEFT_TARGET void row_gated_backward(std::integral_constant<Activation, f>, T* dgate, bool add_gate, T* dup, bool add_up, const T* dy, const T* gate,
                                    const T* up, std::int64_t n) {
  V<T> value, slope;
  for (std::int64_t i = 0; i < n; i += L<T>) {
    const std::int64_t left = n - i;
    const bool whole = left >= L<T>;
    const V<T> g = whole ? load(dy + i) : load_part(dy + i, left), u = whole ? load(up + i) : load_part(up + i, left);
    evaluate<T, f>(whole ? load(gate + i) : load_part(gate + i, left), value, slope);
    V<T> a = g * u * slope, b = g * value;
    if (dgate) {
      if (add_gate) a += whole ? load(dgate + i) : load_part(dgate + i, left);
      if (whole)
        store(dgate + i, a);
      else
        store_part(dgate + i, a, left);
    }
    if (dup) {
      if (add_up) b += whole ? load(dup + i) : load_part(dup + i, left);
      if (whole)
        store(dup + i, b);
      else
        store_part(dup + i, b, left);
    }
  }
}

// One head, halves: (a, b) ← (a c − b s, b c + a s)
template <class T>
PEFT_TARGET void rotate_halves(T* x, const T* cos, const T* sin, std::int64_t half, T sign) {
  const V<T> direction = broadcast(sign);
  std::int64_t i = 0;
  for (; i + L<T> <= half; i += L<T>) {
    const V<T> a = load(x + i), b = load(x + half + i), c = load(cos + i), s = load(sin + i) * direction;
    store(x + i, a * c - b * s);
    store(x + half + i, b * c + a * s);
  }
  for (; i < half; i++) {
    const T a = x[i], b = x[half + i], c = cos[i], s = sin[i] * sign;
    x[i] = a * c - b * s, x[half + i] = b * c + a * s;
  }
}

// Σ e^(x − max); x becomes e^(x − max)
template <class T>
PEFT_TARGET T row_exp(T* x, T max_value, std::int64_t n) {
  const V<T> m = broadcast(max_value);
  V<T> total{};
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) {
    const V<T> e = exp(load(x + i) - m);
    store(x + i, e);
    total += e;
  }
  T rest = 0;
  if (i < n) {
    const V<T> e = exp(load_part(x + i, n - i, m) - m);
    store_part(x + i, e, n - i);
    for (int k = 0; k < int(n - i); k++) rest += e[k];
  }
  return sum<T>(total) + rest;
}
template <class T>
PEFT_TARGET T row_max(const T* x, std::int64_t n) {
  V<T> m = broadcast(-std::numeric_limits<T>::infinity());
  std::int64_t i = 0;
  for (; i + L<T> <= n; i += L<T>) m = max<T>(m, load(x + i));
  T most = largest<T>(m);
  for (std::int64_t rest = n % L<T>; rest > 0; rest--) most = x[n - rest] > most ? x[n - rest] : most;
  return most;
}

}  // namespace peft::ops::PEFT_ISA
