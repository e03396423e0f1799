# SPDX-License-Identifier: Apache-2.0
"""What all parts share: named random numbers, padded batches, files."""
import json
import zlib

import torch
from safetensors.torch import save_file


def random(name):
    """A generator of its own for everything that has a name."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def randomise(parameters, name, scale):
    """Normal values for (name, tensor) pairs: norms around 1, biases around 0, matrices with the deviation scale(name)."""
    g = random(name)
    with torch.no_grad():
        for key, p in parameters:
            p.normal_(generator=g)
            if p.ndim > 1:
                p.mul_(scale(key))
            elif key.endswith("bias"):
                p.mul_(0.2)
            else:
                p.mul_(0.2).add_(1)


def padded(name, vocab, lengths, prompts, side="right", pad=0, first=3, eos=2):
    """input_ids, attention_mask, labels of rows that end with eos; labels are -100 on padding and on each row's prompt."""
    g, width = random(name), max(lengths) + 1  # one column is padding in every row
    ids = torch.full((len(lengths), width), pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (length, prompt) in enumerate(zip(lengths, prompts)):
        tokens = torch.randint(first, vocab, (length,), generator=g)
        tokens[-1] = eos
        begin = 0 if side == "right" else width - length
        ids[row, begin : begin + length] = tokens
        mask[row, begin : begin + length] = 1
        labels[row, begin + prompt : begin + length] = tokens[prompt:]
    return dict(input_ids=ids, attention_mask=mask, labels=labels)


def save(path, tensors):
    """Copies: tensors may share memory, and may be changed while training goes on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path)


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
