#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the presses of kvpress 0.5.5 on small random fp32 tensors and writes the slots they keep.

    python3 -m venv venv && venv/bin/pip install kvpress==0.5.5 && venv/bin/python kvpress_sets.py

Writes kvpress_inputs.safetensors (the tensors) and kvpress_sets.json (policy spec, budget and kept slots per layer and
kv_head), which tests/golden/kvpress.cpp compares with this library. Only needed to make new ones.
"""
import json
import types

import torch
from kvpress import (AdaKVPress, KeyDiffPress, KnormPress, ObservedAttentionPress, PyramidKVPress, SnapKVPress,
                     StreamingLLMPress, TOVAPress)
from safetensors.torch import save_file

LAYERS, QUERY_HEADS, KV_HEADS, LENGTH, DIM = 4, 6, 3, 160, 16


def module_of(layer):
    config = types.SimpleNamespace(num_attention_heads=QUERY_HEADS, num_key_value_heads=KV_HEADS,
                                   num_hidden_layers=LAYERS, _attn_implementation="sdpa")
    return types.SimpleNamespace(config=config, layer_idx=layer, head_dim=DIM)


def attention(queries, keys):
    logits = queries @ keys.repeat_interleave(QUERY_HEADS // KV_HEADS, 1).transpose(2, 3) / DIM**0.5
    mask = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)
    return torch.softmax(logits + mask, -1)


def kept(press, layer, queries, keys, values):
    module = module_of(layer)
    hidden = torch.zeros(1, LENGTH, 1)
    _, left = press.compress(module, hidden, keys, values, attention(queries, keys), {})
    if isinstance(press, AdaKVPress):
        stays = torch.ones(KV_HEADS, LENGTH, dtype=torch.bool)
        _, heads, slots = module.masked_key_indices
        stays[heads, slots] = False
        return [stays[h].nonzero().flatten().tolist() for h in range(KV_HEADS)]
    # The presses return entries, not slots: every random value vector is unique, so match them.
    return [sorted((left[0, h][:, None] == values[0, h][None]).all(-1).nonzero()[:, 1].tolist())
            for h in range(KV_HEADS)]


def main():
    torch.manual_seed(20260601)
    tensors = []
    for _ in range(LAYERS):
        queries = 1.5 * torch.randn(1, QUERY_HEADS, LENGTH, DIM)
        keys = torch.randn(1, KV_HEADS, LENGTH, DIM) * (0.5 + torch.rand(1, KV_HEADS, 1, 1))
        tensors.append((queries, keys, torch.randn(1, KV_HEADS, LENGTH, DIM)))

    cases = []
    for ratio, budget in ((0.5, 80), (0.75, 40)):
        cases += [
            ("snapkv:window=16,pool=avg,pool_width=5", budget, SnapKVPress(ratio, window_size=16, kernel_size=5)),
            ("snapkv:window=8,pool=avg,pool_width=3", budget, SnapKVPress(ratio, window_size=8, kernel_size=3)),
            ("tova", budget, TOVAPress(ratio)),
            ("streaming_llm", budget, StreamingLLMPress(ratio, n_sink=4)),
            ("accumulated_attention", budget, ObservedAttentionPress(ratio)),
            ("knorm", budget, KnormPress(ratio)),
            ("keydiff", budget, KeyDiffPress(ratio)),
            ("pyramidkv:window=8,pool=avg,pool_width=5", budget, PyramidKVPress(ratio, window_size=8, kernel_size=5)),
            ("pyramidkv:window=2,pool=avg,pool_width=5", budget, PyramidKVPress(ratio, window_size=2, kernel_size=5)),
        ]
        for alpha in (0.0, 0.2, 0.5, 1.0):
            cases.append((f"ada_snapkv:window=8,pool=avg,pool_width=5,safeguard=minimum,floor={alpha}", budget,
                          AdaKVPress(SnapKVPress(ratio, window_size=8, kernel_size=5), alpha)))
            cases.append((f"ada_knorm:safeguard=minimum,floor={alpha}", budget, AdaKVPress(KnormPress(ratio), alpha)))

    sets = [{"policy": spec, "budget": budget,
             "kept": [kept(press, layer, *tensors[layer]) for layer in range(LAYERS)]}
            for spec, budget, press in cases]
    with open("kvpress_sets.json", "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(s, separators=(",", ":")) for s in sets) + "\n]\n")
    save_file({f"layers.{i}.{name}": t[0].contiguous() for i, three in enumerate(tensors)
               for name, t in zip(("queries", "keys", "values"), three)}, "kvpress_inputs.safetensors")


if __name__ == "__main__":
    main()
