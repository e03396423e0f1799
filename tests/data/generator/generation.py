# SPDX-License-Identifier: Apache-2.0
"""generation/: greedy decoding and beam search, alone and with an adapter, and every processor of logits."""
import copy

import torch
from peft import PeftModel
from transformers.generation import logits_process as processors

from common import dump, padded, random, save
from models import load

NEW = 12
PAD = 0


def prompts(name, vocab, lengths):
    rows = padded(name, vocab, lengths, [0] * len(lengths), side="left", pad=PAD)
    return {k: rows[k] for k in ("input_ids", "attention_mask")}


def with_neighbour(model):
    """The model, and a copy whose weights are off by a hundred-thousandth: more than rounding may do to the logits."""
    other, g = copy.deepcopy(model), random("neighbour")
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1 + 1e-5 * torch.randn(p.shape, generator=g))
    return model, other


def generate(models, inputs, settings):
    """What the model and its neighbour agree on; None where they do not: a near tie, which no other implementation need decide alike."""
    one, other = (m.generate(**inputs, do_sample=False, pad_token_id=PAD, return_dict_in_generate=True, output_scores=True, **settings) for m in models)
    return one if torch.equal(one.sequences, other.sequences) else None


def cases(free, width):
    """Settings that matter on these prompts: `free`, what follows them without any, says which tokens to end at and which to forbid."""
    answer = free[:, width:].tolist()
    eos = list(dict.fromkeys([answer[0][4], answer[-1][6], answer[0][9]]))
    bad = [[answer[0][1]], answer[-1][:2]]
    greedy = {
        "greedy": dict(eos_token_id=None),
        "greedy_eos": dict(eos_token_id=eos),
        "greedy_min_new_tokens": dict(eos_token_id=eos, min_new_tokens=NEW - 2),
        "greedy_repetition_penalty": dict(eos_token_id=eos[:1], repetition_penalty=1.4),
        "greedy_no_repeat_ngram": dict(eos_token_id=None, no_repeat_ngram_size=2),
        "greedy_bad_words": dict(eos_token_id=eos[:1], bad_words_ids=bad),
        "greedy_suppress_tokens": dict(eos_token_id=None, suppress_tokens=bad[0]),
    }
    beams = {
        "beam3": dict(num_beams=3, eos_token_id=None),
        "beam4_return3": dict(num_beams=4, num_return_sequences=3, eos_token_id=eos),
        "beam4_repetition_penalty": dict(num_beams=4, repetition_penalty=1.2, eos_token_id=eos),
        "beam3_no_repeat_ngram": dict(num_beams=3, no_repeat_ngram_size=2, eos_token_id=eos),
    }
    for penalty in (-0.5, 0.0, 1.5):
        for early in (False, True, "never"):
            beams[f"beam4_length_penalty{penalty}_early_{early}".lower()] = dict(num_beams=4, num_return_sequences=2, eos_token_id=eos,
                                                                                 length_penalty=penalty, early_stopping=early)
    return {name: dict(settings, max_new_tokens=NEW) for name, settings in {**greedy, **beams}.items()}


def write_decoding(root, base):
    model = load(root, base)
    models = with_neighbour(model)
    golden = dict(pad_token_id=PAD, prompts={}, cases={})
    for variant, lengths in {"batch": [6, 3, 5], "single": [4]}.items():
        for attempt in range(50):
            inputs = prompts(f"{base}/{variant}/{attempt}", model.config.vocab_size, lengths)
            free = generate(models, inputs, dict(max_new_tokens=NEW, eos_token_id=None))
            settings = cases(free.sequences, inputs["input_ids"].shape[1]) if free is not None else {}
            results = {name: generate(models, inputs, s) for name, s in settings.items()}
            if results and all(r is not None for r in results.values()):
                break
        else:
            raise RuntimeError("no prompts without a near tie")
        golden["prompts"].update({f"{variant}.{k}": v.tolist() for k, v in inputs.items()})
        for name, r in results.items():
            entry = dict(settings=settings[name], sequences=r.sequences.tolist())
            if "num_beams" in settings[name]:
                entry["sequences_scores"] = r.sequences_scores.tolist()
            golden["cases"][f"{variant}/{name}"] = entry
    dump(root / "generation" / base / "decoding.json", golden)


def write_with_adapters(root, names):
    golden = {}
    for name in names:
        tuned = PeftModel.from_pretrained(load(root, name.split("/")[0]), root / "adapters" / name).eval()
        models = with_neighbour(tuned)
        inputs = prompts(name + "/prompts", tuned.config.vocab_size, [5, 3])
        settings = dict(max_new_tokens=NEW, eos_token_id=None)
        golden[name] = dict({k: v.tolist() for k, v in inputs.items()}, settings=settings)
        for way, more in {"greedy": {}, "beam3": dict(num_beams=3)}.items():
            golden[name][way] = generate(models, inputs, dict(settings, **more)).sequences.tolist()
    dump(root / "generation/with_adapters.json", golden)


def write_processors(root):
    g = random("processors")
    vocab, length = 29, 11
    logits = torch.randn(5, vocab, generator=g) * torch.tensor([0.5, 1, 2, 4, 8])[:, None]
    logits[1, 3] = logits[1, 20]  # equals
    ids = torch.randint(0, 6, (5, length), generator=g)  # few kinds, so that n-grams come again
    tail = ids[:, -2:].tolist()
    bias = [[[7], 2.5], [[tail[0][1], 8], -3.0], [tail[3] + [1], 9.0]]
    words = [[4], [tail[0][1], 9], tail[2] + [10]]
    entries = {
        "TemperatureLogitsWarper": [dict(temperature=0.4), dict(temperature=1.9)],
        "TopKLogitsWarper": [dict(top_k=1), dict(top_k=7), dict(top_k=2, min_tokens_to_keep=5), dict(top_k=500)],
        "TopPLogitsWarper": [dict(top_p=0.2), dict(top_p=0.95), dict(top_p=0.0, min_tokens_to_keep=3)],
        "MinPLogitsWarper": [dict(min_p=0.1), dict(min_p=0.9, min_tokens_to_keep=2)],
        "TypicalLogitsWarper": [dict(mass=0.3), dict(mass=0.85, min_tokens_to_keep=4)],
        "EpsilonLogitsWarper": [dict(epsilon=0.02), dict(epsilon=0.5)],
        "EtaLogitsWarper": [dict(epsilon=0.02), dict(epsilon=0.4)],
        "RepetitionPenaltyLogitsProcessor": [dict(penalty=0.7), dict(penalty=1.6), dict(penalty=1.6, prompt_ignore_length=5)],
        "EncoderRepetitionPenaltyLogitsProcessor": [dict(penalty=1.3, encoder_input_ids=4)],
        "NoRepeatNGramLogitsProcessor": [dict(ngram_size=n) for n in (1, 2, 3)],
        "MinLengthLogitsProcessor": [dict(min_length=length + 1, eos_token_id=[2, 3]), dict(min_length=length, eos_token_id=[2, 3])],
        "MinNewTokensLengthLogitsProcessor": [dict(prompt_length_to_skip=length - 2, min_new_tokens=n, eos_token_id=[2]) for n in (2, 3)],
        "NoBadWordsLogitsProcessor": [dict(bad_words_ids=words, eos_token_id=[2])],
        "SequenceBiasLogitsProcessor": [dict(sequence_bias=bias)],
        "ForcedBOSTokenLogitsProcessor": [dict(bos_token_id=5)],
        "ForcedEOSTokenLogitsProcessor": [dict(max_length=length + 1, eos_token_id=[2, 3]), dict(max_length=length + 2, eos_token_id=[2])],
        "SuppressTokensLogitsProcessor": [dict(suppress_tokens=[0, 11, 28])],
        "SuppressTokensAtBeginLogitsProcessor": [dict(begin_suppress_tokens=[1, 2], begin_index=n) for n in (length, length - 1)],
        "ExponentialDecayLengthPenalty": [dict(exponential_decay_length_penalty=[6, 1.1], eos_token_id=[2, 4], input_ids_seq_length=1)],
        "LogitNormalization": [dict()],
    }
    tensors, index = dict(logits=logits, input_ids=ids), {}

    def add(name, processor, settings, result, columns=length):
        tensors[name] = result
        index[name] = dict(processor=processor, settings=settings, input_ids=columns)

    for processor, all_settings in entries.items():
        for i, settings in enumerate(all_settings):
            arguments = dict(settings)
            if processor == "EncoderRepetitionPenaltyLogitsProcessor":
                settings = dict(settings, encoder_input_ids=f"the first {settings['encoder_input_ids']} columns of input_ids")
                arguments["encoder_input_ids"] = ids[:, : arguments["encoder_input_ids"]]
            columns = 1 if processor == "ForcedBOSTokenLogitsProcessor" else length
            result = getattr(processors, processor)(**arguments)(ids[:, :columns], logits.clone())
            add(f"{processor}.{i}", processor, settings, result, columns)
    # OpenAI's penalties, by their published formula
    count = torch.nn.functional.one_hot(ids, vocab).sum(1).float()
    for frequency, presence in ((0.6, 0.0), (0.0, 0.9), (-0.4, 0.2)):
        add(f"FrequencyPresencePenalty.{frequency}.{presence}", "FrequencyPresencePenalty",
            dict(frequency_penalty=frequency, presence_penalty=presence), logits - frequency * count - presence * (count > 0))
    chain = [processors.TemperatureLogitsWarper(0.6), processors.TopKLogitsWarper(12), processors.TopPLogitsWarper(0.9)]
    x = logits.clone()
    for p in chain:
        x = p(ids, x)
    add("chain", "TemperatureLogitsWarper(0.6), TopKLogitsWarper(12), TopPLogitsWarper(0.9)", {}, x)
    tensors["chain.probabilities"] = x.softmax(-1)
    save(root / "generation/processors.safetensors", tensors)
    dump(root / "generation/processors.json", index)


def write(root):
    for base in ("llama-gqa", "gemma2"):
        write_decoding(root, base)
    write_with_adapters(root, ["llama-gqa/lora", "llama-bias/lora-bias-all"])
    write_processors(root)
