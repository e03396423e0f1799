# SPDX-License-Identifier: Apache-2.0
"""models/: tiny decoders of other architectures than Llama's, each with logits, loss, and the gradient of every parameter."""
import torch
from transformers import AutoModelForCausalLM, BloomConfig, GPTNeoXConfig, OPTConfig

from common import padded, random, randomise, save

ROWS = dict(lengths=[11, 6, 8], prompts=[3, 1, 4])
TOKENS = dict(bos_token_id=1, eos_token_id=2, initializer_range=0.2)

CONFIGS = {
    # positions from row 2 on
    "opt": OPTConfig(vocab_size=70, hidden_size=24, word_embed_proj_dim=24, num_hidden_layers=2, ffn_dim=36, num_attention_heads=3,
                     max_position_embeddings=32, pad_token_id=0, dropout=0.0, **TOKENS),
    # a quarter of each head turns, both sublayers side by side
    "gpt_neox": GPTNeoXConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, intermediate_size=48, num_attention_heads=2,
                              max_position_embeddings=32, rotary_pct=0.25, pad_token_id=0, **TOKENS),
    # the same one after the other, with half of each head
    "gpt_neox-serial": GPTNeoXConfig(vocab_size=64, hidden_size=24, num_hidden_layers=2, intermediate_size=32, num_attention_heads=3, hidden_act="gelu_new",
                                     max_position_embeddings=32, rotary_pct=0.5, use_parallel_residual=False, pad_token_id=0, **TOKENS),
    # heads that are no power of two
    "bloom": BloomConfig(vocab_size=60, hidden_size=24, n_layer=2, n_head=6, pad_token_id=0, **TOKENS),
}


def write(root):
    for name, config in CONFIGS.items():
        config._attn_implementation = "eager"
        torch.manual_seed(random(name).initial_seed())
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        randomise(model.named_parameters(), name, lambda key: 0.5 if "embed" in key else 0.25)
        model.tie_weights()
        model.save_pretrained(root / "models" / name)
        inputs = padded(name + "/rows", config.vocab_size, pad=0, **ROWS)
        out = model(**inputs, output_hidden_states=True)
        out.loss.backward()
        t = dict(inputs, logits=out.logits, loss=out.loss, last_hidden_state=out.hidden_states[-1])
        in_file = {"lm_head.weight": "embed_out.weight"} if config.model_type == "gpt_neox" else {}
        t.update({"grad." + in_file.get(key, key): p.grad for key, p in model.named_parameters()})
        save(root / "models" / name / "golden.safetensors", t)
