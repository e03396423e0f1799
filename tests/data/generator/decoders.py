# SPDX-License-Identifier: Apache-2.0
"""models/: tiny decoders of other architectures than Llama's, each with logits, loss, and the gradient of every parameter."""
import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, BloomConfig, Gemma2Config, GPTNeoXConfig, OPTConfig

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
    # a window shorter than the rows in every other layer, caps low enough to bend scores and logits, a scale that is not head_dim's
    "gemma2": Gemma2Config(vocab_size=68, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                           head_dim=8, query_pre_attn_scalar=20, sliding_window=4, attn_logit_softcapping=5.0, final_logit_softcapping=6.0,
                           max_position_embeddings=64, pad_token_id=0, **TOKENS),
    # without caps, with biases, and the window in the layers where it is not by default
    "gemma2-uncapped": Gemma2Config(vocab_size=52, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                                    head_dim=10, query_pre_attn_scalar=10, sliding_window=3, layer_types=["full_attention", "sliding_attention"],
                                    attn_logit_softcapping=None, final_logit_softcapping=None, attention_bias=True, max_position_embeddings=32,
                                    pad_token_id=0, **TOKENS),
}


class Float64(TorchFunctionMode):
    """Makes the roundings to float32 inside the reference library (norms, softmax, rotary tables, losses) ones to float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        wide = lambda x: torch.float64 if x is torch.float32 else x
        function = torch.Tensor.double if function is torch.Tensor.float else function
        return function(*map(wide, args), **{k: wide(v) for k, v in (kwargs or {}).items()})


def in_float64(model, inputs):
    torch.set_default_dtype(torch.float64)
    try:
        with Float64(), torch.no_grad():
            exact = type(model)(model.config).double().eval()  # not from_config, which would round its constants to the type in the config
            exact.load_state_dict(model.state_dict())
            exact.tie_weights()
            out = exact(**inputs)
    finally:
        torch.set_default_dtype(torch.float32)
    return {"f64.logits": out.logits, "f64.loss": out.loss}


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
        if config.model_type == "gemma2":
            t.update(in_float64(model, inputs))
            left = padded(name + "/rows", config.vocab_size, pad=0, side="left", **ROWS)
            out = model(**left, output_hidden_states=True)
            save(root / "models" / name / "golden_left.safetensors",
                 dict(left, logits=out.logits, loss=out.loss, last_hidden_state=out.hidden_states[-1], **in_float64(model, left)))
        save(root / "models" / name / "golden.safetensors", t)
