#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What PyTorch and kvpress keep, and what that costs: parity.json, and the samples it is about in parity_samples.jsonl.

    ./dev model && python parity.py     needs torch, transformers 5.2, kvpress 0.5.5: pip install kvpress==0.5.5
    python parity.py --sets FILE        also all kept sets, as packed bits, where a row differs and one must look

On demand only; parity.cpp compares the library and the engine of examples/llama with the committed values. Per document
one prefill of 2048 tokens with the full cache, in fp32. In each layer every policy says what it keeps. Eight of the ten
are kvpress' own code, called as its hooks call it; H2O and AhaKV, which kvpress has not, are written here from the
papers. Then the next 128 tokens are fed at their own positions over what is really left of each head, and predictions
are compared with the full cache's.

What had to be set so that both sides compute the same (the spec names ours):

- SnapKV, PyramidKV: average pool of width 5, the only pool of kvpress (ours: maximum of 7), and the same windows.
- Ada-KV: safeguard=minimum, kvpress' reading; the authors' mixture is our default. kvpress only masks what Ada-KV
  evicts; here the heads are gathered, so they really differ in length.
- PyramidKV: window 8. With kvpress' own default of 64 the schedule falls back to equal budgets here.
- Nothing is protected by accumulated_attention, keydiff and knorm on either side.
- AhaKV: our choices where the paper leaves it open are those of policy/ahakv.hpp, score/gain.hpp, score/prior.hpp.

A kept set is committed as one number per row, FNV-1a over its slots (90 rows a run; the sets themselves would be a
megabyte). Slots that rounding may decide are left out of it and listed as ties: kept ones no more than MARGIN
(relative) above the highest evicted score, evicted ones no more than MARGIN below the lowest kept one.
"""
import argparse
import importlib.metadata
import json
import math
import pathlib
import sys
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import kvpress
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AttentionInterface, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import eager_attention_forward
from transformers.utils import logging

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = ROOT / "build" / "model"
DOCUMENTS = ["alice", "sqlite-corruption", "us-constitution"]
CONTEXT, SCORED = 2048, 128
BUDGETS = [10, 25]  # per cent of the context
MARGIN = 1e-4  # relative; parity.cpp says what was needed


def marked(n, slots):
    """A mask [kv_heads][n] of slots [kv_heads][kept]."""
    return torch.zeros(len(slots), n, dtype=torch.bool).scatter_(1, slots, True)


def by_press(press):
    """What a press of kvpress keeps, by its own compress(): its topk gathers positions in place of values."""

    def keep(layer, budget):
        press.compression_ratio = 1 - budget / 100
        given = layer.attentions if isinstance(press, kvpress.ObservedAttentionPress) else None
        arguments = layer.module, layer.hidden, layer.keys, layer.positions, given, layer.extra
        kept = marked(layer.n, press.compress(*arguments)[1][0, :, :, 0])
        return kept, boundary(press.score(*arguments)[0], kept)

    return keep


def by_adakv(layer, budget):
    scorer = kvpress.SnapKVPress(window_size=32, kernel_size=5)
    press = kvpress.AdaKVPress(scorer, alpha_safeguard=0.2)
    press.compression_ratio = 1 - budget / 100
    arguments = layer.module, layer.hidden, layer.keys, layer.positions, None, layer.extra
    press.compress(*arguments)
    kept = torch.ones(layer.keys.shape[1:3], dtype=torch.bool)
    kept[layer.module.masked_key_indices[1:]] = False
    layer.module.masked_key_indices = None
    safe = int(int(layer.n * (1 - press.compression_ratio)) * press.alpha_safeguard)
    return kept, boundary(scorer.score(*arguments)[0], kept, shares=kept.sum(1) > safe)


def highest(scores, budget, recent):
    """The highest scores of the slots before the last `recent`, and these."""
    n = scores.shape[1]
    kept = marked(n, scores[:, :n - recent].topk(budget - recent).indices)
    kept[:, n - recent:] = True
    scores[:, n - recent:] = scores.max() + 1
    return kept, boundary(scores, kept)


def h2o(layer, budget):
    """The sum of all rows' attention, mean over the group; half of the budget, rounded down, is recent."""
    slots = layer.n * budget // 100
    scores = layer.attentions[0].sum(1).view(layer.keys.shape[1], -1, layer.n).mean(1)
    return highest(scores, slots, slots // 2)


def ahakv(layer, budget, window=32, prior_width=5):
    """Step gain softmax of the last rows, recent accumulation, value prior (arXiv 2506.03762)."""
    slots, heads, n, dims = layer.n * budget // 100, layer.keys.shape[1], layer.n, layer.keys.shape[3]
    seen = torch.arange(n - window + 1, n + 1)  # i of the last rows
    gain = (2 * (seen.double() / slots).log()).clamp(min=0).sqrt().float()
    queries = layer.queries[0, :, -window:].view(heads, -1, window, dims)
    logits = queries @ layer.keys[0].unsqueeze(1).transpose(2, 3) / math.sqrt(dims) * gain[:, None]
    logits = logits.masked_fill(torch.arange(n) >= seen[:, None], -math.inf)
    accumulated = logits.softmax(-1).sum(2).mean(1)
    norms = layer.values[0].square().sum(-1)
    prior = F.avg_pool1d(norms, prior_width, stride=1, padding=prior_width // 2)
    return highest(accumulated * prior / prior.amax(1, keepdim=True), slots, window)


# Our spec, what is compared with it, and that.
POLICIES = [
    ("snapkv:window=32,pool=avg,pool_width=5", "SnapKVPress(window_size=32, kernel_size=5)",
     by_press(kvpress.SnapKVPress(window_size=32, kernel_size=5))),
    ("tova", "TOVAPress()", by_press(kvpress.TOVAPress())),
    ("accumulated_attention", "ObservedAttentionPress()", by_press(kvpress.ObservedAttentionPress())),
    ("keydiff", "KeyDiffPress()", by_press(kvpress.KeyDiffPress())),
    ("knorm", "KnormPress()", by_press(kvpress.KnormPress())),
    ("streaming_llm", "StreamingLLMPress(n_sink=4)", by_press(kvpress.StreamingLLMPress(n_sink=4))),
    ("pyramidkv:window=8,pool=avg,pool_width=5", "PyramidKVPress(window_size=8, kernel_size=5)",
     by_press(kvpress.PyramidKVPress(window_size=8, kernel_size=5))),
    ("ada_snapkv:window=32,pool=avg,pool_width=5,safeguard=minimum",
     "AdaKVPress(SnapKVPress(window_size=32, kernel_size=5), alpha_safeguard=0.2), gathered", by_adakv),
    ("h2o", "h2o() of parity.py", h2o),
    ("ahakv", "ahakv() of parity.py", ahakv),
]


def boundary(scores, kept, shares=None):
    """Slots that rounding may decide. Rows in `shares` share one budget, so any slot of one may cost one of another."""
    lowest = scores.masked_fill(~kept, math.inf).amin(1)
    evicted = scores.masked_fill(kept, -math.inf).amax(1)
    if shares is not None and shares.any():
        lowest[shares], evicted[shares] = lowest[shares].min(), evicted[shares].max()
    up, down = evicted + MARGIN * evicted.abs(), lowest - MARGIN * lowest.abs()
    return torch.where(kept, scores <= up[:, None], scores >= down[:, None])


class Engine:
    """The model with an attention of ours: over everything, or over what is kept of the context and what follows it."""

    def __init__(self):
        AttentionInterface.register("kept", self.attend)
        self.model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="kept").eval()
        self.context = []  # per layer: keys, values
        self.kept = None  # per layer: [kv_heads][context]
        self.queries = None
        for layer in self.model.model.layers:
            layer.self_attn.register_forward_hook(self.after, with_kwargs=True)

    def attend(self, module, query, key, value, mask, scaling, **_):
        tokens = query.shape[2]
        causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
        if self.kept is None:
            self.queries = query
            self.context.append((key, value))
            mask = torch.zeros(tokens, tokens).masked_fill(~causal, -math.inf)[None, None]
            return eager_attention_forward(module, query, key, value, mask, scaling)
        out, group = [], module.num_key_value_groups
        for head, kept in enumerate(self.kept[module.layer_idx]):
            k, v = (torch.cat([old[0, head, kept], new[0, head]])
                    for old, new in zip(self.context[module.layer_idx], (key, value)))
            sees = torch.cat([torch.ones(tokens, int(kept.sum()), dtype=torch.bool), causal], 1)
            of_group = query[0, head * group:(head + 1) * group]
            out.append(F.scaled_dot_product_attention(of_group, k, v, sees, scale=scaling))
        return torch.cat(out).transpose(0, 1)[None], None

    def after(self, module, _, extra, output):
        if self.kept is not None:
            return
        keys, values = self.context[-1]
        n = keys.shape[2]
        layer = SimpleNamespace(module=module, hidden=extra["hidden_states"], queries=self.queries, keys=keys,
                                values=values, attentions=output[1], extra=extra, n=n,
                                positions=torch.arange(n)[None, None, :, None].expand(keys.shape))
        for (spec, _, keep) in POLICIES:
            for budget in BUDGETS:
                self.found[spec, budget].append(keep(layer, budget))

    def prefill(self, tokens):
        """What every policy keeps: per policy and budget, per layer, kept slots and ties, [kv_heads][context] each."""
        self.context, self.kept = [], None
        self.found = {(spec, budget): [] for spec, _, _ in POLICIES for budget in BUDGETS}
        self.model.model(torch.tensor([tokens]), use_cache=False)
        return self.found

    def follow(self, tokens, position, kept):
        """Log-probabilities behind each of the tokens."""
        self.kept = kept
        places = torch.arange(position, position + len(tokens))[None]
        logits = self.model(torch.tensor([tokens]), position_ids=places, use_cache=False).logits[0]
        return logits.double().log_softmax(-1)


def digest(slots):
    value = 2166136261
    for slot in slots:
        value = (value ^ slot) * 16777619 % 2**32
    return value


def rows_of(found):
    """Digests of the rows without their ties, and the ties as [row, slot]."""
    kept = torch.cat([k for k, _ in found])
    ties = torch.cat([t for _, t in found])
    return [digest(row.nonzero().flatten().tolist()) for row in kept & ~ties], ties.nonzero().tolist()


def read_samples():
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    for name in DOCUMENTS:
        text = (ROOT / "bench" / "quality" / "documents" / "report" / f"{name}.txt").read_text(encoding="utf-8")
        ids = tokenizer.encode(text).ids[:CONTEXT + SCORED + 1]
        yield {"sample": f"prose/{name}", "measure": "prose", "context": ids[:CONTEXT], "follow": ids[CONTEXT:],
               "scored": SCORED}


def packed(kept):
    """Kept sets as bits, [rows][slots / 8]; slot 0 is the lowest bit of byte 0."""
    return (kept.unflatten(1, (-1, 8)) * 2 ** torch.arange(8)).sum(-1).to(torch.uint8)


def compare(engine, sample):
    """Per policy and budget: the run as it is committed, and its kept sets."""
    found = engine.prefill(sample["context"])
    fed = sample["follow"][:-1]
    everything = [torch.ones_like(kept) for kept, _ in found[POLICIES[0][0], BUDGETS[0]]]
    full = engine.follow(fed, CONTEXT, everything)
    for spec, reference, _ in POLICIES:
        for budget in BUDGETS:
            layers = [kept for kept, _ in found[spec, budget]]
            predicted = engine.follow(fed, CONTEXT, layers)
            kld = (full.exp() * (full - predicted)).sum(-1)
            digests, ties = rows_of(found[spec, budget])
            yield {"sample": sample["sample"], "policy": spec, "budget": f"{budget}%", "reference": reference,
                   "slots": sum(int(kept.sum()) for kept in layers), "kld": round(kld.mean().item(), 7),
                   "log_kld": round(kld.clamp(min=1e-10).log().mean().item(), 6), "digests": digests,
                   "ties": ties}, packed(torch.cat(layers))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=pathlib.Path, help="all kept sets: safetensors, packed bits [rows][slots / 8]")
    sets_file = parser.parse_args().sets
    logging.disable_progress_bar()
    engine, samples, runs, sets = Engine(), list(read_samples()), [], {}
    for sample in samples:
        print(f"{sample['sample']}: prefill", file=sys.stderr)
        for run, kept in compare(engine, sample):
            runs.append(json.dumps(run, separators=(",", ":")))
            sets[f"{run['sample']} {run['policy']} {run['budget']}"] = kept
            print(f"  {run['policy']} {run['budget']}: kld {run['kld']:.4f}, {len(run['ties'])} ties", file=sys.stderr)
    made_with = {name: importlib.metadata.version(name) for name in ("torch", "transformers", "kvpress")}
    head = json.dumps({"made_with": made_with, "margin": MARGIN})[:-1]
    (HERE / "parity.json").write_text(head + ', "runs": [\n' + ",\n".join(runs) + "\n]}\n", encoding="utf-8")
    lines = [json.dumps(sample) + "\n" for sample in samples]
    (HERE / "parity_samples.jsonl").write_text("".join(lines), encoding="utf-8")
    if sets_file:
        save_file(sets, sets_file)


if __name__ == "__main__":
    main()
