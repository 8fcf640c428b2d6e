#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What transformers computes for a prompt of 1000 tokens: reference.json and reference.safetensors beside this file.

    ./dev model && python reference.py     needs torch, transformers and safetensors; nothing else in this project does

Logits in fp32 of the model in build/model: all rows at 32 tokens of the vocabulary, spread evenly, and the whole last
row. (All of them would be 197 MB.)
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = ROOT / "build" / "model"


def main():
    text = (ROOT / "examples" / "capture" / "alice.txt").read_text(encoding="utf-8")
    tokens = Tokenizer.from_file(str(MODEL / "tokenizer.json")).encode(text).ids[:1000]
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="sdpa").eval()
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    columns = torch.linspace(0, logits.shape[1] - 1, 32).round().long()
    save_file({"some": logits[:, columns].contiguous(), "last": logits[-1:].contiguous()},
              HERE / "reference.safetensors")
    (HERE / "reference.json").write_text(json.dumps({"tokens": tokens, "columns": columns.tolist()}) + "\n",
                                         encoding="utf-8")


if __name__ == "__main__":
    main()
