# SPDX-License-Identifier: Apache-2.0
"""models/: tiny Llamas as save_pretrained writes them, each with logits, loss, and the gradient of every parameter."""
import json
import shutil

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

import double
from common import dump, padded, random, randomise, save

ROWS = dict(lengths=[11, 6, 8], prompts=[3, 1, 4])
SHORT_ROWS = dict(lengths=[9, 5], prompts=[2, 3])


def configs(root):
    """Each differs from the others in what a reader may get wrong."""
    common = dict(num_hidden_layers=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, initializer_range=0.2)
    tokens = len(json.loads((root / "tokenizers/bytes-digits/tokenizer.json").read_text())["model"]["vocab"])
    return {
        # fewer key-value heads than heads, tied head
        "llama-gqa": dict(common, vocab_size=96, hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2,
                          tie_word_embeddings=True, rms_norm_eps=1e-5, pad_token_id=0),
        # Llama 3's frequencies, untied head, padded with eos, an odd number of heads
        "llama3-rope": dict(common, vocab_size=72, hidden_size=24, intermediate_size=40, num_attention_heads=3, num_key_value_heads=1,
                            tie_word_embeddings=False, pad_token_id=2,
                            rope_parameters=dict(rope_type="llama3", rope_theta=20000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                                                 original_max_position_embeddings=16)),
        # biases, heads that are wider than hidden_size / heads, a tokenizer that fits
        "llama-bias": dict(common, vocab_size=tokens, hidden_size=16, intermediate_size=24, num_attention_heads=2, num_key_value_heads=2, head_dim=12,
                           tie_word_embeddings=True, attention_bias=True, mlp_bias=True, pad_token_id=0, max_position_embeddings=256),
    }


def load(root, name):
    return AutoModelForCausalLM.from_pretrained(root / "models" / name, dtype=torch.float32, attn_implementation="eager").eval()


def golden(model, inputs, gradients):
    """All numbers of one batch. Those in float64 are double.py's, and must agree with the reference's float32."""
    model.zero_grad()
    out = model(**inputs, output_hidden_states=True)
    exact = double.logits(model.config, model.state_dict(), inputs["input_ids"], inputs["attention_mask"])
    difference = ((exact - out.logits).abs() * inputs["attention_mask"][..., None]).max()
    assert difference < 1e-4, difference
    t = dict(inputs, logits=out.logits, loss=out.loss, last_hidden_state=out.hidden_states[-1])
    t.update({"f64.logits": exact, "f64.loss": double.loss(exact, inputs["labels"])})
    if gradients:
        out.loss.backward()
        t.update({"grad." + name: p.grad for name, p in model.named_parameters()})
    return t


def legacy_config(folder):
    """The same in the keys that the reference library wrote before version 5, as most published models have them."""
    j = json.loads((folder / "config.json").read_text())
    rope = j.pop("rope_parameters")
    j["rope_theta"] = rope.pop("rope_theta")
    j["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    j["torch_dtype"] = j.pop("dtype")
    dump(folder / "config.legacy.json", j)
    assert LlamaConfig(**{k: v for k, v in j.items() if k != "torch_dtype"}).rope_parameters == LlamaConfig.from_pretrained(folder).rope_parameters


def write(root):
    for name, settings in configs(root).items():
        folder = root / "models" / name
        torch.manual_seed(random(name).initial_seed())
        model = LlamaForCausalLM(LlamaConfig(**settings, attn_implementation="eager")).eval()
        randomise(model.named_parameters(), name, lambda key: 0.5 if "embed" in key else 0.25)
        model.tie_weights()
        model.save_pretrained(folder)
        legacy_config(folder)
        rows = SHORT_ROWS if name == "llama-bias" else ROWS
        batch = lambda side: padded(name + "/rows", model.config.vocab_size, side=side, pad=model.config.pad_token_id, **rows)
        save(folder / "golden.safetensors", golden(model, batch("right"), gradients=True))
        if name != "llama-bias":
            save(folder / "golden_left.safetensors", golden(model, batch("left"), gradients=False))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(root / "tokenizers/bytes-digits" / file, root / "models/llama-bias" / file)

    # llama-gqa once more, rounded to fewer bits, and in several files
    folder = root / "models/llama-bf16"
    load(root, "llama-gqa").to(torch.bfloat16).save_pretrained(folder)
    save(folder / "golden.safetensors", golden(load(root, "llama-bf16"), padded("llama-bf16/rows", 96, **ROWS), gradients=False))
    load(root, "llama-gqa").save_pretrained(root / "models/llama-sharded", max_shard_size="40KB")
