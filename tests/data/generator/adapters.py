# SPDX-License-Identifier: Apache-2.0
"""adapters/: adapters as PEFT saves them, with logits, gradients, ten steps of AdamW and the merged weights."""
import peft.tuners.boft.layer
import peft.tuners.lora.eva as eva_module
import torch
from peft import BOFTConfig, EvaConfig, GraloraConfig, HRAConfig, LoraConfig, PeftModel, VBLoRAConfig, get_peft_model, initialize_lora_eva_weights
from safetensors.torch import load_file

from common import padded, random, save
from models import load

CASES = {
    "llama-gqa/lora": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    "llama-gqa/lora-all-linear": dict(r=3, lora_alpha=6, target_modules="all-linear", rank_pattern={"q_proj": 2, r"layers\.1\.mlp\.down_proj": 5},
                                      alpha_pattern={"q_proj": 7, "k_proj": 1}),
    "llama-gqa/lora-rslora": dict(r=6, lora_alpha=3, use_rslora=True, target_modules=["k_proj", "o_proj", "gate_proj"]),
    "llama-gqa/lora-regex": dict(r=2, lora_alpha=5, target_modules=r".*\.(q|k|up)_proj", exclude_modules=r".*layers\.0\.self_attn\.k_proj"),
    "llama-gqa/lora-layers": dict(r=2, lora_alpha=4, target_modules=["down_proj"], layers_to_transform=[1]),
    "llama3-rope/lora": dict(r=4, lora_alpha=4, target_modules=["q_proj", "k_proj", "down_proj"]),
    "llama-bias/lora-bias-only": dict(r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"], bias="lora_only"),
    "llama-bias/lora-bias-all": dict(r=2, lora_alpha=4, target_modules=["v_proj"], bias="all"),
    "gemma2/lora": dict(r=3, lora_alpha=6, target_modules="all-linear"),
}

# Options of other methods, computed in float64 (but for what transformers computes in float32 in any case).
OTHERS = {
    "llama-gqa/boft-butterfly": lambda: BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=3, target_modules=["q_proj", "down_proj"]),
    "llama-bias/boft-block-num": lambda: BOFTConfig(boft_block_size=0, boft_block_num=8, boft_n_butterfly_factor=2, target_modules=["v_proj"]),
    "llama-gqa/hra-gs": lambda: HRAConfig(r=5, apply_GS=True, target_modules=["q_proj", "v_proj", "up_proj"]),
    "llama-bias/gralora-hybrid": lambda: GraloraConfig(r=4, hybrid_r=3, alpha=10, gralora_k=2, target_modules=["q_proj", "down_proj"]),
    "llama-gqa/vblora-topk": lambda: VBLoRAConfig(r=2, num_vectors=12, vector_length=8, topk=3, save_only_topk_weights=True, target_modules=["q_proj", "v_proj"]),
}


class BlockDiagonal:
    """What PEFT's extension for GPUs computes, without which it takes one butterfly factor for any number."""

    @staticmethod
    def forward(x):
        return [torch.stack([torch.block_diag(*factor) for factor in x])]

    @staticmethod
    def backward(grad, x):
        size = x.shape[-1]
        return [torch.stack([torch.stack([g[i * size : (i + 1) * size, i * size : (i + 1) * size] for i in range(x.shape[1])]) for g in grad])]


peft.tuners.boft.layer._FBD_CUDA = BlockDiagonal


def in_file(name):
    """A parameter's name as the adapter's file has it."""
    name = name.replace(".default", "")
    return "base_model.vblora_vector_bank" if name.endswith(".vblora_vector_bank") else name  # which all modules share


def write_case(root, case, config, dtype=torch.float32):
    base, folder = case.split("/")[0], root / "adapters" / case
    torch.manual_seed(random(case).initial_seed())
    config.task_type = "CAUSAL_LM"
    tuned = get_peft_model(load(root, base), config).eval()
    tuned.peft_config["default"].base_model_name_or_path = "models/" + base
    trained = {in_file(n): p for n, p in tuned.named_parameters() if p.requires_grad}
    g = random(case + "/weights")
    with torch.no_grad():  # B begins as zero, which would hide most mistakes
        for p in trained.values():
            p.add_(0.15 * torch.randn(p.shape, generator=g))
    tuned.save_pretrained(folder, save_embedding_layers=False)
    whole = not getattr(config, "save_only_topk_weights", False)  # else the file has not what trains
    assert not whole or load_file(folder / "adapter_model.safetensors").keys() == trained.keys()

    tuned.to(dtype)
    inputs = padded(case + "/rows", tuned.config.vocab_size, [9, 6], [2, 3], pad=tuned.config.pad_token_id)
    out = tuned(**inputs)
    out.loss.backward()
    t = dict(inputs, logits=out.logits, loss=out.loss)
    t.update({"grad." + name: p.grad.clone() for name, p in trained.items()})
    if not whole:
        t.update({"param." + name: p.detach().clone() for name, p in trained.items()})

    # The file, loaded again and merged, means the same.
    again = PeftModel.from_pretrained(load(root, base), folder).eval().to(dtype)
    torch.testing.assert_close(again(**inputs).logits, out.logits, rtol=0, atol=1e-5)
    before, merged = load(root, base).to(dtype).state_dict(), again.merge_and_unload()
    torch.testing.assert_close(merged(**inputs).logits, out.logits, rtol=0, atol=1e-4)
    changed = {n: w for n, w in merged.state_dict().items() if not torch.equal(w, before[n])}
    changed.pop("lm_head.weight", None)
    save(folder / "merged.safetensors", changed)

    optimizer = torch.optim.AdamW(trained.values(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = tuned(**inputs).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        out = tuned(**inputs)
    t["train.losses"] = torch.tensor(losses + [out.loss.item()], dtype=torch.float64)
    t["after_training.logits"] = out.logits
    t.update({"after." + name: p for name, p in trained.items()})
    save(folder / "golden.safetensors", t)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's template of a model card


EVA_CASES = {
    "llama-gqa/half": dict(r=2, lora_alpha=6, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"], rho=2.0),
    "llama-gqa/all": dict(r=3, lora_alpha=3, target_modules="all-linear", rank_pattern={"k_proj": 4}, rho=1.5),
    "llama3-rope/whitened": dict(r=2, lora_alpha=2, target_modules=["q_proj", "up_proj", "down_proj"], rho=3.0, whiten=True, use_label_mask=False,
                                 adjust_scaling_factors=False),
}


class ExactPCA(eva_module.IncrementalPCA):
    """PEFT's own, by a whole decomposition where it draws one of few columns (svd_lowrank)."""

    def __init__(self, *args, lowrank, lowrank_seed, **kwargs):
        super().__init__(*args, **kwargs)


def write_eva(root, case, settings):
    """The batches that EVA saw, and the adapter as it begins then."""
    eva_module.IncrementalPCA = ExactPCA
    base, folder = case.split("/")[0], root / "eva" / case
    eva = {k: settings[k] for k in ("rho", "whiten", "use_label_mask", "adjust_scaling_factors") if k in settings}
    lora = {k: v for k, v in settings.items() if k not in eva}
    torch.manual_seed(random(case).initial_seed())
    config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights="eva", eva_config=EvaConfig(tau=0.99, **eva), **lora)
    tuned = get_peft_model(load(root, base), config).eval()
    tuned.peft_config["default"].base_model_name_or_path = "models/" + base
    tuned.peft_config["default"].save_pretrained(folder / "begun")
    vocab, pad = tuned.config.vocab_size, tuned.config.pad_token_id
    batches = [padded(f"{case}/eva/{i}", vocab, [30 + i, 17, 26], [3, 2, 5], pad=pad) for i in range(3)]
    initialize_lora_eva_weights(tuned, batches, show_progress_bar=False)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    save(folder / "batches.safetensors", {f"{i}.{name}": t for i, b in enumerate(batches) for name, t in b.items()})
    (folder / "README.md").unlink(missing_ok=True)


def write(root):
    for case, settings in EVA_CASES.items():
        write_eva(root, case, settings)
    for case, settings in CASES.items():
        write_case(root, case, LoraConfig(**settings))
    for case, config in OTHERS.items():
        write_case(root, case, config(), torch.float64)
