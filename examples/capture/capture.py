#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Captures post-RoPE queries, keys and values of any Hugging Face causal language model as safetensors.

    python capture.py MODEL TEXT OUT [--gguf FILE] [--tokens 1500] [--layers 1,10,19,28] [--rows ROWS] [--dtype F16]

Writes, per layer L,  layers.L.queries [query_heads, rows, dim]   the last `rows` positions (default: all)
                      layers.L.keys    [kv_heads, n, dim]
                      layers.L.values  [kv_heads, n, dim]

It wraps the model's own attention function, so it sees what attention sees: after RoPE, before the heads of a group
are repeated. Needs torch, transformers and safetensors (and gguf for --gguf); nothing else in this project does.
"""
import argparse
import pathlib

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a model's name or folder")
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--gguf", help="the GGUF file inside the folder")
    parser.add_argument("--tokens", type=int, default=1500)
    parser.add_argument("--layers", help="for instance 1,10,19,28; default: four spread over the depth")
    parser.add_argument("--rows", type=int, default=0, help="query rows to keep; default: all")
    parser.add_argument("--dtype", choices=["F16", "F32"], default="F16")
    args = parser.parse_args()

    source = {"gguf_file": args.gguf} if args.gguf else {}
    tokenizer = AutoTokenizer.from_pretrained(args.model, **source)
    model = AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.float32, attn_implementation="sdpa", **source
    ).eval()

    depth = model.config.num_hidden_layers
    default = [max(0, min(depth - 1, round(depth * (0.05 + 0.3 * i)) - (i > 0))) for i in range(4)]
    layers = [int(x) for x in args.layers.split(",")] if args.layers else sorted(set(default))
    for layer in layers:
        if not 0 <= layer < depth:
            parser.error(f"--layers: layer {layer} is not in 0 .. {depth - 1}")

    ids = tokenizer(args.text.read_text(encoding="utf-8"), return_tensors="pt").input_ids[:, : args.tokens]
    if ids.shape[1] < args.tokens:
        print(f"note: the text has only {ids.shape[1]} tokens")

    seen = {}
    attention = ALL_ATTENTION_FUNCTIONS["sdpa"]

    def recording(module, query, key, value, *rest, **named):
        if module.layer_idx in layers:
            seen[module.layer_idx] = (query[0], key[0], value[0])
        return attention(module, query, key, value, *rest, **named)

    ALL_ATTENTION_FUNCTIONS.register("sdpa", recording)
    with torch.no_grad():
        model(ids, use_cache=False)

    dtype = torch.float16 if args.dtype == "F16" else torch.float32
    tensors = {}
    for layer, (query, key, value) in sorted(seen.items()):
        rows = args.rows or query.shape[1]
        tensors[f"layers.{layer}.queries"] = query[:, -rows:].to(dtype).contiguous()
        tensors[f"layers.{layer}.keys"] = key.to(dtype).contiguous()
        tensors[f"layers.{layer}.values"] = value.to(dtype).contiguous()
        print(f"layer {layer}: queries {tuple(query.shape)}, keys {tuple(key.shape)}, largest |k| {key.abs().max():.1f}")
    save_file(tensors, args.out, metadata={"model": args.model.rsplit("/", 1)[-1], "text": args.text.name})
    print(f"wrote {args.out}: {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
