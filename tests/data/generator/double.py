# SPDX-License-Identifier: Apache-2.0
"""Llama written out in float64, rotary tables and norms included: the reference library rounds these to float32 whatever the model's type."""
import math

import torch
import torch.nn.functional as F


def frequencies(config, head_dim):
    rope = config.rope_parameters
    f = rope["rope_theta"] ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    if rope["rope_type"] == "default":
        return f
    assert rope["rope_type"] == "llama3"
    # Turns over the original context: above high_freq_factor a frequency stays, below low_freq_factor it is divided, between it is mixed.
    turns = rope["original_max_position_embeddings"] * f / (2 * math.pi)
    keep = ((turns - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])).clamp(0, 1)
    return keep * f + (1 - keep) * f / rope["factor"]


def logits(config, weights, ids, mask):
    """ids, mask (B, T) -> (B, T, V). Rows of padding hold no meaningful values."""
    w = {k: v.detach().double() for k, v in weights.items()}
    batch, length = ids.shape
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    size = config.head_dim or config.hidden_size // heads
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequencies(config, size).repeat(2)
    cos, sin = angle.cos(), angle.sin()
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1) | ~mask.bool()[:, None, None, :]  # True: not seen

    def norm(x, name):
        return x * (x.square().mean(-1, keepdim=True) + config.rms_norm_eps).rsqrt() * w[name + ".weight"]

    def linear(x, name):
        return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))

    def split(x, n):
        return x.view(batch, length, n, size).transpose(1, 2)

    def turn(x):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    x = w["model.embed_tokens.weight"][ids]
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}."
        h = norm(x, at + "input_layernorm")
        q = turn(split(linear(h, at + "self_attn.q_proj"), heads))
        k = turn(split(linear(h, at + "self_attn.k_proj"), kv_heads)).repeat_interleave(heads // kv_heads, 1)
        v = split(linear(h, at + "self_attn.v_proj"), kv_heads).repeat_interleave(heads // kv_heads, 1)
        scores = (q @ k.transpose(2, 3) / math.sqrt(size)).masked_fill(hidden, -1e300)
        x = x + linear((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, -1), at + "self_attn.o_proj")
        h = norm(x, at + "post_attention_layernorm")
        x = x + linear(F.silu(linear(h, at + "mlp.gate_proj")) * linear(h, at + "mlp.up_proj"), at + "mlp.down_proj")
    head = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
    return F.linear(norm(x, "model.norm"), w[head + ".weight"])


def loss(values, labels):
    """Mean over the labels that count, each predicted by the row before it."""
    return F.cross_entropy(values[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
