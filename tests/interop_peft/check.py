#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains and merges adapters with `peft`, and loads what it wrote in transformers and PEFT: the logits must be those of this library.

    python3 tests/interop_peft/check.py --bin build/bin        # ends with 77 where torch, transformers or peft is missing

Needs the programs peft and write_logits. PEFT_PYTHON in the environment names another interpreter.
"""
import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests/data/golden/models/llama-bias"
GGUF = ROOT / "tests/data/golden/gguf/llama-Q4_1.gguf"
ADAPTER = ROOT / "tests/data/golden/adapters/llama-gqa/lora"
DATA = ROOT / "examples/data/quillon/train.jsonl"
TOLERANCE = 1e-4  # of logits of about 10: float32 sums in another order
TRAINED = {
    "default": [],
    "all-linear": ["--targets", "all-linear", "--rslora", "--r", "6", "--alpha", "3"],
    "bias-lora-only": ["--targets", "q_proj,down_proj", "--bias", "lora_only"],
    "bias-all": ["--targets", "v_proj", "--r", "2", "--bias", "all"],
}

# Every method that PEFT has, with options that this small model wants. (PEFT has no adaption prompt where heads are wider than hidden_size, as here.)
METHODS = {
    "adalora": ["target_r=2", "init_r=3"],
    "boft": ["boft_block_size=4"],
    "c3a": ["block_size=4"],
    "delora": ["r=3"],
    "fourierft": ["n_frequency=20"],
    "gralora": ["r=4", "hybrid_r=2"],
    "hira": ["r=3"],
    "hra": ["r=4", "apply_GS=true"],
    "ia3": [],
    "ln_tuning": [],
    "loha": ["r=2"],
    "lokr": ["r=2", "decompose_both=true"],
    "lora": ["use_dora=true"],
    "miss": ["r=4", "init_weights=bat"],
    "multitask_prompt_tuning": ["num_virtual_tokens=4", "num_ranks=2"],
    "oft": ["oft_block_size=4"],
    "p_tuning": ["num_virtual_tokens=4", "encoder_reparameterization_type=LSTM", "encoder_hidden_size=8"],
    "prefix_tuning": ["num_virtual_tokens=4", "prefix_projection=true", "encoder_hidden_size=8"],
    "prompt_tuning": ["num_virtual_tokens=4"],
    "road": ["group_size=4", "variant=road_2"],
    "shira": ["r=1"],
    "trainable_tokens": ["token_indices=3,50,51"],
    "vblora": ["num_vectors=12", "vector_length=4", "topk=3"],
    "vera": ["r=6"],
}

if other := os.environ.pop("PEFT_PYTHON", None):
    os.execvp(other, [other, *sys.argv])
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
missing = [name for name in ("torch", "transformers", "peft") if importlib.util.find_spec(name) is None]
if missing:
    print("skipped: this Python has no", ", ".join(missing))
    sys.exit(77)

import torch  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM  # noqa: E402
from transformers.utils import logging  # noqa: E402


class Check:
    def __init__(self, programs, folder):
        self.programs, self.folder, self.failed = programs, folder, 0

    def run(self, program, *arguments):
        done = subprocess.run([self.programs / program, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(map(str, arguments))}\n{done.stdout}{done.stderr}")
        return done.stdout

    def ours(self, ids, model, *adapter):
        """Logits of this library."""
        save_file({"input_ids": ids}, self.folder / "ids.safetensors")
        self.run("write_logits", model, self.folder / "ids.safetensors", self.folder / "logits.safetensors", *adapter)
        return load_file(self.folder / "logits.safetensors")["logits"]

    def say(self, name, good, text):
        print("PASS" if good else "FAIL", name, text, flush=True)
        self.failed += not good

    def near(self, name, found, wanted, tolerance=TOLERANCE):
        difference = (found - wanted).abs().max().item() if found.shape == wanted.shape else float("inf")
        self.say(name, difference <= tolerance, f"max_abs={difference:.3g}")


def base(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def theirs(model, ids):
    with torch.no_grad():
        return model(ids).logits


def check_adapter(check, name, ids, options):
    """An adapter that `peft train` wrote."""
    adapter = check.folder / name
    check.run("peft", "train", "--model", MODEL, "--data", DATA, "--out", adapter, "--max-steps", 6, "--batch", 4, "--lr", 0.02, *options)
    plain, ours = check.ours(ids, MODEL), check.ours(ids, MODEL, adapter)
    moved = (ours - plain).abs().max().item()
    check.say(name + "/trained", moved > 0.1, f"moves logits by up to {moved:.3g}")

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)  # between PEFT and transformers
        warnings.filterwarnings("error", message=".*adapter keys")  # PEFT only warns of tensors that it misses
        tuned = PeftModel.from_pretrained(base(MODEL), adapter).eval()
    file = load_file(adapter / "adapter_model.safetensors")
    wanted = get_peft_model_state_dict(tuned, save_embedding_layers=False)
    same = file.keys() == wanted.keys() and all(torch.equal(file[k], wanted[k]) for k in file)
    check.say(name + "/tensors", same, f"{len(file)} of {len(wanted)}, the same values")
    check.near(name + "/logits", theirs(tuned, ids), ours)

    # Back again: what PEFT writes of it means the same here, to the bit.
    tuned.save_pretrained(check.folder / (name + "-again"), save_embedding_layers=False)
    check.near(name + "/again", check.ours(ids, MODEL, check.folder / (name + "-again")), ours, 0)

    # Merged by this library, as a directory of its own.
    for dtype, stored in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        merged = check.folder / f"{name}-{dtype}"
        check.run("peft", "merge", "--model", MODEL, "--adapter", adapter, "--out", merged, "--dtype", dtype)
        types = {t.dtype for t in load_file(merged / "model.safetensors").values()}
        check.say(f"{name}/merged-{dtype}-types", types == {stored}, str(types))
        found = theirs(base(merged), ids)
        check.near(f"{name}/merged-{dtype}", found, check.ours(ids, merged))
        if dtype == "f32":
            check.near(f"{name}/merged-{dtype}-as-adapter", found, ours)
            check.near(f"{name}/merged-{dtype}-by-peft", found, theirs(tuned.merge_and_unload(), ids))
    text = "E42 means that the drum's <|im_end|> cyclone filter is clogged: 1987, süß!"
    ids_of = [AutoTokenizer.from_pretrained(folder)(text)["input_ids"] for folder in (MODEL, merged)]
    check.say(name + "/merged-tokenizer", ids_of[0] == ids_of[1] and len(ids_of[0]) > 10, f"{len(ids_of[1])} ids")


def check_method(check, name, ids, options):
    """The same of another method, and with PEFT's own directory of it read here."""
    adapter = check.folder / ("method-" + name)
    settings = [word for option in options for word in ("--set", option)]
    check.run("peft", "train", "--model", MODEL, "--data", DATA, "--out", adapter, "--method", name, "--max-steps", 4, "--batch", 4, "--lr", 0.02, *settings)
    ours = check.ours(ids, MODEL, adapter)
    moved = (ours - check.ours(ids, MODEL)).abs().max().item()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*adapter keys")
        tuned = PeftModel.from_pretrained(base(MODEL), adapter).eval()
        again = check.folder / ("method-" + name + "-again")
        tuned.save_pretrained(again)
        task = {"task_ids": torch.zeros(len(ids), dtype=torch.long)} if name == "multitask_prompt_tuning" else {}
        with torch.no_grad():
            wanted = tuned(input_ids=ids, **task).logits[:, -ids.shape[1] :]
    check.near(name + "/by-peft", wanted, ours)
    check.say(name + "/trained", moved > 1e-3, f"moves logits by up to {moved:.3g}")
    check.near(name + "/again", check.ours(ids, MODEL, again), ours, 1e-5)


def check_gguf(check):
    """A quantised GGUF file with an adapter of PEFT's, merged: its rows of q and k come back into Hugging Face's order."""
    ids, merged = torch.randint(3, 96, (2, 20)), check.folder / "from-gguf"
    check.run("peft", "merge", "--model", GGUF, "--adapter", ADAPTER, "--out", merged)
    check.near("gguf/merged", theirs(base(merged), ids), check.ours(ids, GGUF, ADAPTER))


def check_classifiers(check):
    """Heads that `peft train` trained on a BERT without one, in PEFT: the same answers, and back again."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "the", "film", "plot", "was", "good", "bad", "great", "dull", "##ly"]
    folder = check.folder / "bert"
    (check.folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = BertTokenizerFast(str(check.folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
    BertModel(config).eval().save_pretrained(folder)
    rows = [("the film was good", "a great plot", 1), ("the plot was bad", "dull", 0), ("a great film", "good", 1), ("a dull plot", "badly", 0)]
    table = check.folder / "rows.tsv"
    table.write_text("sentence1\tsentence2\tlabel\n" + "".join(f"{a}\t{b}\t{label}\n" for a, b, label in rows))
    for name, options, labels in (("classes", [], 2), ("numbers", ["--regression"], 1)):
        adapter = check.folder / name
        check.run("peft", "train", "--model", folder, "--task", "seq_cls", "--data", table, "--out", adapter, "--max-steps", 120, "--lr", 0.01, *options)
        said = check.run("peft", "classify", "--model", folder, "--adapter", adapter, "--data", table, "--all").splitlines()
        ours = [json.loads(line) for line in said]
        ours = torch.tensor([[row["value"]] if labels == 1 else list(row["probabilities"].values()) for row in ours])
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels, dtype=torch.float32)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("error", message=".*adapter keys")
            tuned = PeftModel.from_pretrained(model, adapter).eval()
        with torch.no_grad():
            logits = torch.cat([tuned(**tokenizer(a, b, return_tensors="pt")).logits for a, b, _ in rows])
        check.near(f"{name}/answers", logits if labels == 1 else logits.softmax(-1), ours)
        check.say(f"{name}/learnt", (ours[:, -1] - torch.tensor([float(label) for *_, label in rows])).abs().max().item() < 0.4, f"{ours[:, -1].tolist()}")
        tuned.save_pretrained(check.folder / (name + "-again"))
        again = check.run("peft", "classify", "--model", folder, "--adapter", check.folder / (name + "-again"), "--data", table, "--all").splitlines()
        values = [json.loads(line) for line in again]
        values = torch.tensor([[row["value"]] if "value" in row else list(row["probabilities"].values()) for row in values])
        check.near(f"{name}/again", values, ours, 0)


def sentencepiece_like(texts):
    """A BPE with byte_fallback, in the form of Llama 2."""
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")  # so that no token reaches across words
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=700, special_tokens=names, limit_alphabet=100, show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    written = json.loads(tokenizer.to_str())
    written["pre_tokenizer"] = None
    written["added_tokens"] = [token for token in written["added_tokens"] if not token["content"].startswith("<0x")]
    return json.dumps(written)


def check_llama_cpp(check):
    """Directories merged into a GGUF file: llama.cpp finds the directory's ids, chat template and next tokens."""
    if importlib.util.find_spec("llama_cpp") is None:
        return print("SKIP llama.cpp: this Python has no llama_cpp")
    from llama_cpp import Llama

    golden = ROOT / "tests/data/golden/tokenizers"
    texts = [json.loads(row)["text"] for file in golden.glob("*/golden.jsonl") for row in file.read_text().split("\n") if row]
    kinds = {name: (golden / name / "tokenizer.json").read_text() for name in ("bytes-digits", "bytes-gpt2")}
    kinds["pieces"] = sentencepiece_like([text for text in texts if text.isascii() and "\0" not in text])
    for name, text in kinds.items():
        folder, tokenizer = check.folder / ("llama-" + name), Tokenizer.from_str(text)
        size = tokenizer.get_vocab_size() + 5  # rows without a token
        config = LlamaConfig(vocab_size=size, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96)
        config.initializer_range = 0.3
        model = LlamaForCausalLM(config).eval()
        model.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(text)
        (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
        tuned = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
        tuned.save_pretrained(folder / "lora")
        check.run("peft", "merge", "--model", folder, "--adapter", folder / "lora", "--out", folder / "merged.gguf")

        theirs = Llama(str(folder / "merged.gguf"), n_ctx=64, verbose=False)
        bos = any(row["special"] and tokenizer.encode("").ids == [row["id"]] for row in json.loads(text)["added_tokens"])
        wrong = [t for t in texts if "\0" not in t and theirs.tokenize(t.encode(), add_bos=bos, special=True) != tokenizer.encode(t).ids]
        check.say(f"llama.cpp/{name}/ids", not wrong, f"{len(wrong)} of {len(texts)} texts differ {wrong[:1]}")
        check.say(f"llama.cpp/{name}/template", "content" in theirs.metadata.get("tokenizer.chat_template", ""), "")
        ids = tokenizer.encode("The plot was good, 12 times.").ids
        with torch.no_grad():
            wanted = tuned.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=0)[0, len(ids) :].tolist()
        found = [token for token, _ in zip(theirs.generate(ids, temp=0.0, repeat_penalty=1.0), range(8))]
        check.say(f"llama.cpp/{name}/greedy", found == wanted, f"{found} {wanted}")

    # LoRAs in GGUF over a base in GGUF: Llama's order of rows, GPT-2's Conv1D, what a pattern or rsLoRA scales.
    text = kinds["bytes-gpt2"]
    tokenizer = Tokenizer.from_str(text)
    size, width = tokenizer.get_vocab_size(), dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
    bases = {
        "llama": LlamaForCausalLM(LlamaConfig(vocab_size=size, num_key_value_heads=2, initializer_range=0.3, **width)),
        "qwen2": Qwen2ForCausalLM(Qwen2Config(vocab_size=size, num_key_value_heads=2, initializer_range=0.3, **width)),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=size, n_embd=64, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3, bos_token_id=0, eos_token_id=0)),
    }
    for name, model in bases.items():
        folder = check.folder / ("gguf-lora-" + name)
        model.eval().save_pretrained(folder)
        (folder / "tokenizer.json").write_text(text)
        nothing = get_peft_model(base(folder), LoraConfig(r=1, target_modules="all-linear", fan_in_fan_out=name == "gpt2"))
        nothing.save_pretrained(folder / "nothing")
        check.run("peft", "merge", "--model", folder, "--adapter", folder / "nothing", "--out", folder / "base.gguf")
        inner = "c_fc" if name == "gpt2" else "up_proj"
        for kind, options in {
            "plain": {},
            "patterns": dict(rank_pattern={inner: 7}, alpha_pattern={inner: 3}),
            "rslora": dict(use_rslora=True, rank_pattern={inner: 2}),
        }.items():
            lora = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", init_lora_weights=False, fan_in_fan_out=name == "gpt2", **options)
            tuned = get_peft_model(base(folder), lora)
            tuned.save_pretrained(folder / kind)
            check.run("peft", "export", "--model", folder / "base.gguf", "--adapter", folder / kind, "--out", folder / f"{kind}.gguf")
            theirs = Llama(str(folder / "base.gguf"), lora_path=str(folder / f"{kind}.gguf"), n_ctx=64, verbose=False)
            ids = tokenizer.encode("The plot was good, 12 times.").ids
            rows, greedy = torch.tensor([ids]), dict(max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0)
            with torch.no_grad():
                logits = tuned(rows).logits
                wanted, plain = (model.generate(rows, **greedy)[0, len(ids) :].tolist() for model in (tuned, base(folder)))
            found = [token for token, _ in zip(theirs.generate(ids, temp=0.0, repeat_penalty=1.0), range(12))]
            check.say(f"llama.cpp/lora-{name}-{kind}", found == wanted and found != plain, f"{found} {wanted}")
            check.near(f"lora-{name}-{kind}.gguf/logits", check.ours(rows, folder / "base.gguf", folder / f"{kind}.gguf"), logits, 1e-3)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin", type=Path, default=ROOT / "build/bin", help="where peft and write_logits are")
    programs = parser.parse_args().bin.resolve()
    logging.disable_progress_bar()
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        check = Check(programs, Path(folder))
        ids = torch.randint(3, base(MODEL).config.vocab_size, (3, 40))
        check.near("base/logits", theirs(base(MODEL), ids), check.ours(ids, MODEL))
        for name, options in TRAINED.items():
            check_adapter(check, name, ids, options)
        for name, options in METHODS.items():
            check_method(check, name, ids, options)
        check_gguf(check)
        check_classifiers(check)
        check_llama_cpp(check)
    sys.exit(1 if check.failed else 0)


if __name__ == "__main__":
    main()
