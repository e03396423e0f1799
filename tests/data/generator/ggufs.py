# SPDX-License-Identifier: Apache-2.0
"""gguf/: llama-gqa in several storage types, vocabularies of the tokenizers, and blocks of quantised values."""
import json

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

from common import padded, random, save
from models import ROWS, load

FILE_TYPES = {"F32": gguf.LlamaFileType.ALL_F32, "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
              "Q4_1": gguf.LlamaFileType.MOSTLY_Q4_1}
LAYER = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
# Half-precision scales inside a block, by their byte; random bytes there would be infinities.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
          "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
          "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [], "TQ1_0": [52], "TQ2_0": [64]}


def names(layers):
    """Hugging Face's names -> GGUF's."""
    all = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    for i in range(layers):
        all.update({f"model.layers.{i}.{a}.weight": f"blk.{i}.{b}.weight" for a, b in LAYER.items()})
    return all


def interleave(rows, heads):
    """llama.cpp turns neighbouring rows of q and k together, Hugging Face rows that are half a head apart.."""
    half = rows // heads // 2
    return torch.arange(rows).view(heads, 2, half).transpose(1, 2).reshape(-1)


def write_model(root, type_name):
    model = load(root, "llama-gqa")
    config, type, path = model.config, Type[type_name], root / f"gguf/llama-{type_name}.gguf"
    w = gguf.GGUFWriter(path, "llama")
    w.add_context_length(config.max_position_embeddings)
    w.add_embedding_length(config.hidden_size)
    w.add_block_count(config.num_hidden_layers)
    w.add_feed_forward_length(config.intermediate_size)
    w.add_head_count(config.num_attention_heads)
    w.add_head_count_kv(config.num_key_value_heads)
    w.add_layer_norm_rms_eps(config.rms_norm_eps)
    w.add_rope_freq_base(config.rope_parameters["rope_theta"])
    w.add_rope_dimension_count(config.head_dim)
    w.add_vocab_size(config.vocab_size)
    w.add_file_type(FILE_TYPES[type_name])
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("default")
    w.add_token_list([f"token{i}" for i in range(config.vocab_size)])
    w.add_token_types([gguf.TokenType.NORMAL] * config.vocab_size)
    w.add_token_merges(["t o"])
    w.add_bos_token_id(config.bos_token_id)
    w.add_eos_token_id(config.eos_token_id)
    expected = {}
    with torch.no_grad():
        for name, stored_name in names(config.num_hidden_layers).items():
            parameter = model.get_parameter(name)
            heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
            order = torch.arange(len(parameter)) if heads is None else interleave(len(parameter), heads)
            values = parameter[order].numpy()
            if values.ndim == 1 or type == Type.F32:
                w.add_tensor(stored_name, values)
                continue
            packed = quantize(values, type)
            w.add_tensor(stored_name, packed, raw_dtype=type)
            stored = dequantize(packed, type)
            if stored_name.startswith("blk.0."):
                expected[stored_name] = stored
            parameter[order] = torch.from_numpy(stored)  # the model computes with what the file holds
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        inputs = padded("gguf/rows", config.vocab_size, **ROWS)
        del inputs["labels"]
        save(path.with_suffix(".logits.safetensors"), dict(inputs, logits=model(**inputs).logits))
    if type_name == "Q4_1":
        save_file(expected, path.with_suffix(".expected.safetensors"))


def write_vocabulary(root, name, pre):
    j = json.loads((root / "tokenizers" / name / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = sorted(j["model"]["vocab"], key=j["model"]["vocab"].get)
    special = {t["content"] for t in j["added_tokens"]}
    w = gguf.GGUFWriter(root / f"gguf/vocab-{name}.gguf", "llama")
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(pre)
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([" ".join(pair) for pair in j["model"]["merges"]])
    w.add_eos_token_id(0)
    w.add_add_bos_token(False)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.close()


def write_blocks(root):
    rng = np.random.default_rng(random("blocks").initial_seed())
    t = {}
    for name, scales in SCALES.items():
        blocks = rng.integers(0, 256, (5, gguf.GGML_QUANT_SIZES[Type[name]][1]), dtype=np.uint8)
        blocks[3], blocks[4] = 0, 255
        for at in scales:  # negative, zero, subnormal
            blocks[:, at : at + 2] = np.array([0.07, -1.5, 0, 3e-7, 0.25], np.float16).view(np.uint8).reshape(5, 2)
        if name == "MXFP4":  # powers of two: ordinary, the two least, the largest with which 12 is finite
            blocks[:, 0] = [120, 1, 0, 130, 251]
        t[name + ".blocks"], t[name + ".values"] = blocks, dequantize(blocks, Type[name]).astype(np.float32)
    x = rng.standard_normal((4, 64)).astype(np.float32) * np.array([[1], [300], [1e-5], [1]], np.float32)
    x[3] = 0  # not -0, whose sign the reference carries into the scale and llama.cpp does not
    t["quantize.input"] = x
    for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "BF16"):
        t[f"quantize.{name}.bytes"] = np.ascontiguousarray(quantize(x, Type[name])).view(np.uint8)
    save_file(t, root / "gguf/blocks.safetensors")


def write(root):
    (root / "gguf").mkdir()
    for type_name in FILE_TYPES:
        write_model(root, type_name)
    write_vocabulary(root, "bytes-gpt2", "gpt-2")
    write_vocabulary(root, "bytes-digits", "smollm")
    write_blocks(root)
