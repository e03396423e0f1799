# SPDX-License-Identifier: Apache-2.0
"""malformed/: broken files, and in index.json what must become of each: "error", "loads", or "either"."""
import json
import shutil
import struct

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from common import random
from models import load


class Index:
    def __init__(self, root):
        self.root, self.files = root / "malformed", []

    def add(self, path, what, expect="error", **more):
        self.files.append(dict(path=path, what=what, expect=expect, **more))
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        return full


def write_safetensors(index):
    def header(name, what, tensors, data=b"", length=None, expect="error"):
        text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
        begin = struct.pack("<Q", len(text) if length is None else length)
        index.add(f"safetensors/{name}.safetensors", what, expect).write_bytes(begin + text + data)

    def one(shape, begin, end, dtype="F32"):
        return {"x": dict(dtype=dtype, shape=shape, data_offsets=[begin, end])}

    header("length_beyond_file", "the header's length is beyond the file", one([2], 0, 8), bytes(8), length=1 << 40)
    header("length_all_ones", "the header's length is 2^64 - 1", b"", length=2**64 - 1)
    header("not_json", "the header is no JSON", b"{x: 1}  ")
    header("nested", "the header is nested 2000 deep", b"[" * 2000)
    header("list", "the header is a list", b"[1, 2]")
    header("data_cut_off", "the data ends early", one([4], 0, 16), bytes(12))
    header("too_few_bytes", "12 bytes for a shape that needs 16", one([4], 0, 12), bytes(12))
    header("negative_shape", "a negative dimension", one([-2, -2], 0, 16), bytes(16))
    header("huge_product", "2^33 x 2^33 elements, whose number wraps", one([2**33, 2**33], 0, 0))
    header("end_before_begin", "data_offsets that run backwards", one([2], 8, 0), bytes(8))
    header("overlap", "two tensors share their bytes", {**one([2], 0, 8), "y": dict(dtype="F32", shape=[2], data_offsets=[4, 12])}, bytes(12))
    header("no_offsets", "a tensor without data_offsets", {"x": dict(dtype="F32", shape=[1])}, bytes(4))
    index.add("safetensors/seven_bytes.safetensors", "the file ends inside the header's length").write_bytes(bytes(7))


def write_gguf(index):
    def string(s):
        return struct.pack("<Q", len(s)) + s.encode()

    def file(name, what, body=b"", magic=b"GGUF", version=3, tensors=0, keys=0):
        index.add(f"gguf/{name}.gguf", what).write_bytes(magic + struct.pack("<IQQ", version, tensors, keys) + body)

    def tensor(name, dimensions, type=0, offset=0):
        return string(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, type, offset)

    architecture = string("general.architecture") + struct.pack("<I", 8) + string("llama")
    file("magic", "another magic", architecture, magic=b"GGUX", keys=1)
    file("version", "version 900", architecture, version=900, keys=1)
    file("cut_off", "ends inside a key", architecture[:11], keys=1)
    file("many_tensors", "2^61 tensors", architecture, tensors=2**61, keys=1)
    file("long_key", "a key of 2^62 bytes", struct.pack("<Q", 2**62), keys=1)
    file("long_list", "a list of 2^50 numbers", string("list") + struct.pack("<IIQ", 9, 4, 2**50), keys=1)
    file("value_type", "a value of type 99", string("key") + struct.pack("<I", 99), keys=1)
    file("tensor_type", "a tensor of type 999", architecture + tensor("x", [32], type=999) + bytes(64), tensors=1, keys=1)
    file("wrapping_shape", "2^40 x 2^40 elements", architecture + tensor("x", [2**40, 2**40]) + bytes(64), tensors=1, keys=1)
    file("beyond_file", "a tensor's data begins beyond the file", architecture + tensor("x", [32], offset=2**40) + bytes(64), tensors=1, keys=1)
    file("half_block", "a row of Q8_0 that is no whole number of blocks", architecture + tensor("x", [40], type=8) + bytes(64), tensors=1, keys=1)
    file("no_architecture", "no general.architecture")


def write_tokenizers(index, root):
    def file(name, what, change, expect="error"):
        j = json.loads((root / "tokenizers/bytes-gpt2/tokenizer.json").read_text(encoding="utf-8"))
        j["model"]["vocab"] = {t: i for i, t in enumerate(["a", "b", "c", "ab"])}  # as many as the cases need
        j["model"]["merges"], j["added_tokens"] = [["a", "b"]], []
        text = change(j)
        index.add(f"tokenizer/{name}.json", what, expect).write_text(text if isinstance(text, str) else json.dumps(j))

    file("cut_off", "ends early", lambda j: json.dumps(j)[:200])
    file("empty", "no bytes", lambda j: "")
    file("unknown_merge", "the result of a merge is no token", lambda j: j["model"]["merges"].append(["b", "c"]))
    file("triple_merge", "a merge of three", lambda j: j["model"]["merges"].append(["a", "b", "c"]))
    file("negative_id", "an id of -1", lambda j: j["model"]["vocab"].update(a=-1))
    file("huge_id", "an id of 2^45", lambda j: j["model"]["vocab"].update(a=2**45))
    file("model_type", "a kind of model that nobody knows", lambda j: j["model"].update(type="Syllables"))
    file("vocabulary_is_list", "a list where the vocabulary should be", lambda j: j["model"].update(vocab=["a", "b"]))
    file("unchanged", "nothing is wrong", lambda j: None, expect="loads")


def write_adapters(index, root):
    torch.manual_seed(0)
    tuned = get_peft_model(load(root, "llama-gqa"), LoraConfig(r=1, lora_alpha=2, target_modules=["q_proj"], layers_to_transform=[0], task_type="CAUSAL_LM"))
    tuned.peft_config["default"].base_model_name_or_path = "models/llama-gqa"
    whole = root / "malformed/adapter/unchanged"
    tuned.save_pretrained(whole, save_embedding_layers=False)
    (whole / "README.md").unlink(missing_ok=True)
    prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_"

    def folder(name, what, config=None, tensors=None, expect="error"):
        target = index.add(f"adapter/{name}", what, expect, base="models/llama-gqa")
        if target != whole:
            shutil.copytree(whole, target)
        j = json.loads((target / "adapter_config.json").read_text())
        text = config(j) if config else None
        (target / "adapter_config.json").write_text(text if isinstance(text, str) else json.dumps(j, indent=2))
        t = load_file(target / "adapter_model.safetensors")
        if tensors:
            tensors(t)
            save_file(t, target / "adapter_model.safetensors")

    folder("unchanged", "nothing is wrong", expect="loads")
    folder("rank_zero", "r is 0", lambda j: j.update(r=0))
    folder("rank_huge", "r is 10^10", lambda j: j.update(r=10**10))
    folder("rank_text", "r is a text", lambda j: j.update(r="one"))
    folder("unknown_method", "a peft_type that nobody knows", lambda j: j.update(peft_type="WISHFUL"))
    folder("matches_nothing", "no module has such a name", lambda j: j.update(target_modules=["query"]))
    folder("config_cut_off", "the configuration ends early", lambda j: json.dumps(j)[:100])
    folder("tensor_missing", "lora_A is missing", tensors=lambda t: t.pop(prefix + "A.weight"))
    folder("tensor_too_many", "a layer that the base does not have", tensors=lambda t: t.update({prefix.replace(".0.", ".7.") + "A.weight": torch.ones(1, 32)}))
    folder("transposed", "lora_A is transposed", tensors=lambda t: t.update({prefix + "A.weight": t[prefix + "A.weight"].T.contiguous()}))
    folder("one_nan", "a weight is NaN", tensors=lambda t: t[prefix + "B.weight"].fill_(float("nan")), expect="loads")


def write_models(index):
    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=16)
    torch.manual_seed(random("malformed").initial_seed())
    whole = index.root / "model/unchanged"
    LlamaForCausalLM(config).save_pretrained(whole)
    (whole / "generation_config.json").unlink()
    q = "model.layers.0.self_attn.q_proj.weight"

    def folder(name, what, config=None, tensors=None, expect="error", also=None):
        target = index.add(f"model/{name}", what, expect)
        if target != whole:
            shutil.copytree(whole, target)
        j = json.loads((target / "config.json").read_text())
        if config:
            config(j)
            (target / "config.json").write_text(json.dumps(j, indent=2))
        if tensors:
            t = load_file(target / "model.safetensors")
            tensors(t)
            save_file(t, target / "model.safetensors")
        if also:
            also(target)

    def index_to(name):
        def also(target):
            (target / "model.safetensors").unlink()
            (target / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {q: name}}))
        return also

    folder("unchanged", "nothing is wrong", expect="loads")
    folder("tensor_missing", "q_proj is missing", tensors=lambda t: t.pop(q))
    folder("tensor_misshapen", "q_proj has a row too many", tensors=lambda t: t.update({q: torch.zeros(9, 8)}))
    folder("one_nan", "a weight is NaN", tensors=lambda t: t[q].fill_(float("nan")), expect="loads")
    folder("heads", "3 key-value heads for 2 heads", lambda j: j.update(num_key_value_heads=3))
    folder("no_layers", "-1 layers", lambda j: j.update(num_hidden_layers=-1))
    folder("huge", "a hidden size of 2^44", lambda j: j.update(hidden_size=2**44))
    folder("rope_type", "a rope_type that nobody knows", lambda j: j["rope_parameters"].update(rope_type="spiral"))
    folder("activation", "a hidden_act that nobody knows", lambda j: j.update(hidden_act="squint"))
    folder("model_type", "a model_type that nobody knows", lambda j: j.update(model_type="dromedary"))
    folder("no_weights", "a configuration alone", also=lambda target: (target / "model.safetensors").unlink())
    folder("shard_outside", "a shard outside of the folder", also=index_to("../unchanged/model.safetensors"))
    folder("shard_missing", "a shard that is not there", also=index_to("model-00001-of-00002.safetensors"))


def write(root):
    index = Index(root)
    write_safetensors(index)
    write_gguf(index)
    write_tokenizers(index, root)
    write_adapters(index, root)
    write_models(index)
    (index.root / "index.json").write_text(json.dumps({"files": index.files}, indent=1) + "\n")
