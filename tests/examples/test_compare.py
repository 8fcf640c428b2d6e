#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The program `compare` from outside: flags, output formats, exit codes and sentences.

    test_compare.py COMPARE COMPARE_WITH_A_PRETENDED_DEVICE

Makes small captures with the standard library only, and checks selections against plain loops.
"""
import json
import math
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import unittest

COMPARE = PRETENDING = None
DTYPES = {"F32": "f", "F16": "e"}
NAMES = ["full", "random", "streaming_llm", "accumulated_attention", "h2o", "tova", "snapkv", "nacl", "ahakv", "knorm",
         "keydiff", "pyramidkv", "decayed_keydiff"]
WINDOWED = {"snapkv", "nacl", "ahakv", "pyramidkv", "decayed_keydiff"}


def flat(tensor):
    return [x for part in tensor for x in flat(part)] if isinstance(tensor, list) else [tensor]


def shape_of(tensor):
    return [len(tensor)] + shape_of(tensor[0]) if isinstance(tensor, list) else []


def safetensors(tensors, dtype="F32", edit=lambda header: None):
    header, data = {}, b""
    for name, tensor in tensors.items():
        values = flat(tensor)
        packed = struct.pack(f"<{len(values)}{DTYPES[dtype]}", *values)
        header[name] = {"dtype": dtype, "shape": shape_of(tensor), "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    edit(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(rng, *shape):
    if not shape:
        return struct.unpack("<e", struct.pack("<e", rng.gauss(0, 1)))[0]  # a number that fp16 holds too
    return [tensor(rng, *shape[1:]) for _ in range(shape[0])]


def capture(layers=(0, 7), heads=2, group=2, rows=48, length=48, dim=8, seed=1):
    rng, tensors = random.Random(seed), {}
    for layer in layers:
        tensors[f"layers.{layer}.queries"] = tensor(rng, heads * group, rows, dim)
        tensors[f"layers.{layer}.keys"] = tensor(rng, heads, length, dim)
        tensors[f"layers.{layer}.values"] = tensor(rng, heads, length, dim)
    return tensors


def attention_row(query, keys, visible, gain=1.0):
    logits = [gain * sum(a * b for a, b in zip(query, k)) / math.sqrt(len(query)) for k in keys[:visible]]
    weights = [math.exp(x - max(logits)) for x in logits]
    return [w / sum(weights) for w in weights] + [0.0] * (len(keys) - visible)


def columns(tensors, layer, head, prompt, window, gain=lambda visible: 1.0):
    """Sum over the group and the last `window` rows of the prompt."""
    queries, keys = tensors[f"layers.{layer}.queries"], tensors[f"layers.{layer}.keys"][head][:prompt]
    group = len(queries) // len(tensors[f"layers.{layer}.keys"])
    sums = [0.0] * prompt
    for q in range(head * group, head * group + group):
        for visible in range(prompt - window + 1, prompt + 1):
            row = attention_row(queries[q][visible - 1], keys, visible, gain(visible))
            sums = [a + b for a, b in zip(sums, row)]
    return sums


def best(scores, budget, sinks, recent):
    n = len(scores)
    safe = set(range(sinks)) | set(range(n - recent, n))
    order = sorted((j for j in range(n) if j not in safe), key=lambda j: (-scores[j], j))
    return sorted(safe | set(order[:budget - len(safe)]))


def decoded(tensors, layer, policy, prompt, budget, every):
    """Positions held at the end, per kv_head: a plain loop over the tokens after the prompt."""
    queries, keys = tensors[f"layers.{layer}.queries"], tensors[f"layers.{layer}.keys"]
    heads, length, group = len(keys), len(keys[0]), len(queries) // len(keys)
    cached = [list(range(prompt)) for _ in keys]
    sums = [columns(tensors, layer, h, prompt, prompt) for h in range(heads)]
    step_gain = lambda seen: math.sqrt(2 * math.log(seen / budget)) if seen > budget else 0.0

    def row(head, position, gain=1.0):
        """What the query at a position gives to the cached slots up to it, sum over the group."""
        held = [keys[head][p] for p in cached[head]]
        visible = sum(p <= position for p in cached[head])
        parts = [attention_row(queries[q][position], held, visible, gain) if visible else [0.0] * len(held)
                 for q in range(head * group, head * group + group)]
        return [sum(column) for column in zip(*parts)]

    def evict(seen):
        window = lambda head, gain: [sum(c) for c in zip(*(row(head, p, gain(p + 1)) for p in range(seen - 6, seen)))]
        chosen = []
        for head in range(heads):
            if policy == "streaming_llm":
                chosen.append(best(cached[head], budget, 4, 0))
            elif policy == "h2o":
                chosen.append(best(sums[head], budget, 0, budget // 2))
            elif policy == "tova":
                chosen.append(best([sum(c) for c in zip(*(row(h, seen - 1) for h in range(heads)))], budget, 0, 1))
            elif policy.startswith("snapkv"):
                chosen.append(best(window(head, lambda seen: 1.0), budget, 0, 6))
            else:
                chosen.append(best(window(head, step_gain), budget, 0, 6))
        for head, slots in enumerate(chosen):
            cached[head] = [cached[head][s] for s in slots]
            sums[head] = [sums[head][s] for s in slots]

    evict(prompt)
    for position in range(prompt, length):
        for head in range(heads):
            cached[head].append(position)
            sums[head] = [a + b for a, b in zip(sums[head] + [0.0], row(head, position))]
        if len(cached[0]) >= budget + every:
            evict(position + 1)
    return cached


class Compare(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.tensors = capture()
        cls.file = cls.write("good.safetensors", safetensors(cls.tensors))

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def write(cls, name, data):
        path = pathlib.Path(cls.folder.name) / name
        path.write_bytes(data)
        return str(path)

    def run_compare(self, *arguments, code=0, program=None, pretend=""):
        done = subprocess.run([program or COMPARE, *map(str, arguments)], capture_output=True, text=True, timeout=120,
                              env={**os.environ, "KVEVICT_PRETEND": pretend})
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def selection(self, file, *arguments):
        out = str(pathlib.Path(self.folder.name) / "selection.json")
        self.run_compare(file, "--selection", out, *arguments)
        return json.loads(pathlib.Path(out).read_text())

    def refused(self, *arguments, says):
        done = self.run_compare(*arguments, code=2)
        for part in says:
            self.assertIn(part, done.stderr)
        self.assertEqual(done.stdout, "")

    def test_every_policy_and_ada_over_it(self):
        specs = [name + (":window=6" if name in WINDOWED else "") for name in NAMES]
        specs += ["ada_" + spec for spec in specs]
        kept = self.selection(self.file, "--budget", 16, "--future", 8, *(x for s in specs for x in ("--policy", s)))
        self.assertEqual(sorted(kept), sorted(specs))
        for spec, layers in kept.items():
            self.assertEqual(sorted(layers), ["0", "7"], spec)
            heads = [head for layer in layers.values() for head in layer]
            self.assertEqual(sum(map(len, heads)), 4 * (40 if "full" in spec else 16), spec)
            for head in heads:
                self.assertEqual(head, sorted(set(head)), spec)
                self.assertTrue(all(0 <= slot < 40 for slot in head), spec)

    def test_selections_of_plain_loops(self):
        prompt, budget = 40, 16
        kept = self.selection(self.file, "--budget", budget, "--future", 8, "--layers", "7", "--policy", "streaming_llm",
                              "--policy", "knorm", "--policy", "h2o", "--policy", "snapkv:window=6,pool=none",
                              "--policy", "tova", "--policy", "ahakv:window=6,prior=off")
        keys = self.tensors["layers.7.keys"]
        both = [columns(self.tensors, 7, h, prompt, 1) for h in (0, 1)]
        step = lambda visible: math.sqrt(2 * math.log(visible / budget)) if visible > budget else 0.0
        for head in (0, 1):
            expect = {
                "streaming_llm": [0, 1, 2, 3] + list(range(prompt - 12, prompt)),
                "knorm": best([-math.hypot(*k) for k in keys[head][:prompt]], budget, 0, 0),
                "h2o": best(columns(self.tensors, 7, head, prompt, prompt), budget, 0, 8),
                "snapkv:window=6,pool=none": best(columns(self.tensors, 7, head, prompt, 6), budget, 0, 6),
                "tova": best([a + b for a, b in zip(*both)], budget, 0, 1),
                "ahakv:window=6,prior=off": best(columns(self.tensors, 7, head, prompt, 6, step), budget, 0, 6),
            }
            for spec, slots in expect.items():
                self.assertEqual(kept[spec]["7"][head], slots, spec)

    def test_decode_of_plain_loops(self):
        specs = ["streaming_llm", "h2o", "tova", "snapkv:window=6,pool=none", "ahakv:window=6,prior=off"]
        for every in (1, 3, 5):
            kept = self.selection(self.file, "--budget", 16, "--future", 14, "--decode", every,
                                  *(x for s in specs for x in ("--policy", s)))
            for spec in specs:
                for layer in (0, 7):
                    self.assertEqual(kept[spec][str(layer)], decoded(self.tensors, layer, spec, 34, 16, every),
                                     (spec, layer, every))

    def test_decode_of_every_policy(self):
        specs = [p + name + (":window=6" if name in WINDOWED else "") for name in NAMES for p in ("", "ada_")]
        arguments = [x for s in specs for x in ("--policy", s)]
        out = str(pathlib.Path(self.folder.name) / "figures.json")
        kept = self.selection(self.file, "--budget", "50%", "--future", 8, "--decode", 2, "--json", out, *arguments)
        for spec in specs:
            heads = [head for layer in kept[spec].values() for head in layer]
            self.assertEqual(sum(map(len, heads)), 4 * (48 if "full" in spec else 20), spec)
            for head in heads:
                self.assertEqual(head, sorted(set(head)), spec)
                self.assertTrue(all(0 <= position < 48 for position in head), spec)
        runs = {run["policy"]: run for run in json.loads(pathlib.Path(out).read_text())["policies"]}
        events = runs["h2o"]["layers"][0]["evictions"]
        self.assertEqual([e["after"] for e in events], [0, 2, 4, 6, 8])
        self.assertEqual({e["slots_left"] for e in events}, {40})
        self.assertEqual([e["after"] for e in runs["full"]["layers"][0]["evictions"]], [0])
        self.assertAlmostEqual(runs["full"]["attention_mass_kept"], 1, 6)  # sums of floats
        # An eviction interval that is never reached: the prompt alone is evicted, and judged as without --decode.
        late = self.run_compare(self.file, "--budget", 16, "--future", 8, "--decode", 9, "--policy", "knorm").stdout
        once = self.run_compare(self.file, "--budget", 16, "--future", 8, "--policy", "knorm").stdout
        self.assertEqual(late.splitlines()[1].split()[2:6], once.splitlines()[1].split()[2:6])

    def test_half_precision_and_rows_of_the_end_only(self):
        policies = ["--policy", "snapkv:window=6", "--policy", "ada_ahakv:window=6", "--budget", "16"]
        full = self.selection(self.file, *policies)
        half = self.write("half.safetensors", safetensors(self.tensors, "F16"))
        self.assertEqual(self.selection(half, *policies), full)
        last = {n: [h[-6:] for h in t] if "queries" in n else t for n, t in self.tensors.items()}
        self.assertEqual(self.selection(self.write("last.safetensors", safetensors(last)), *policies), full)
        done = self.run_compare(self.write("last.safetensors", safetensors(last)), "--policy", "h2o", code=2)
        self.assertIn("h2o: queries: this policy scores with all rows", done.stderr)

    def test_table_and_json(self):
        out = str(pathlib.Path(self.folder.name) / "figures.json")
        done = self.run_compare(self.file, "--future", 8, "--budget", "50%", "--policy", "full", "--policy", "h2o",
                                "--json", out)
        table = done.stdout.splitlines()
        self.assertIn("mass", table[0])
        self.assertTrue(table[1].startswith("full") and "100.0%" in table[1] and "100.00%" in table[1])
        self.assertIn("50.0%", table[2])
        figures = json.loads(pathlib.Path(out).read_text())
        runs = {run["policy"]: run for run in figures["policies"]}
        self.assertAlmostEqual(runs["full"]["attention_mass_kept"], 1, 6)  # sums of floats
        self.assertLess(runs["full"]["output_error"], 1e-6)
        h2o = runs["h2o"]
        self.assertEqual(h2o["bytes_freed"], 2 * 2 * 20 * 16 * 4)
        self.assertTrue(0 < h2o["attention_mass_kept"] < 1)
        self.assertTrue(h2o["output_distance"] <= h2o["output_bound"])

    def test_the_mass_and_error_of_plain_loops(self):
        out = str(pathlib.Path(self.folder.name) / "figures.json")
        self.run_compare(self.file, "--future", 8, "--budget", 16, "--layers", 0, "--policy", "knorm", "--json", out)
        kept = self.selection(self.file, "--future", 8, "--budget", 16, "--layers", 0, "--policy", "knorm")["knorm"]["0"]
        masses, difference, norm = [], 0.0, 0.0
        for q, rows in enumerate(self.tensors["layers.0.queries"]):
            keys, values = (self.tensors[f"layers.0.{x}"][q // 2] for x in ("keys", "values"))
            for visible in range(41, 49):
                row = attention_row(rows[visible - 1], keys, visible)
                stays = [w if j >= 40 or j in kept[q // 2] else 0.0 for j, w in enumerate(row)]
                masses.append(sum(stays))
                for d in range(8):
                    all_of_it = sum(w * v[d] for w, v in zip(row, values))
                    without = sum(w * v[d] for w, v in zip(stays, values)) / sum(stays)
                    difference += (all_of_it - without) ** 2
                    norm += all_of_it ** 2
        run = json.loads(pathlib.Path(out).read_text())["policies"][0]
        self.assertAlmostEqual(run["attention_mass_kept"], sum(masses) / len(masses), 5)
        self.assertAlmostEqual(run["output_error"], math.sqrt(difference / norm), 5)

    def test_all_policies_where_some_cannot_run(self):
        done = self.run_compare(self.file, "--budget", 16)  # window 32 is more than 16 slots
        self.assertIn("not run", done.stdout)
        self.assertIn("knorm", done.stdout)
        self.assertIn("a plain copy", done.stdout)
        none = self.run_compare(self.file, "--budget", 16, "--policy", "snapkv", code=2)
        self.assertNotIn("a plain copy", none.stdout)  # nothing was timed

    def test_the_cpu_is_the_default_backend(self):
        policies = ("--budget", 16, "--policy", "knorm", "--policy", "ada_h2o")
        self.assertEqual(self.selection(self.file, "--backend", "cpu", *policies), self.selection(self.file, *policies))

    def test_where_there_is_no_device_it_says_what_to_do(self):
        done = subprocess.run([COMPARE, self.file, "--backend", "cuda", "--budget", "16"], capture_output=True, text=True)
        if done.returncode == 0:
            self.assertIn("the device and the CPU", done.stdout)
            self.skipTest("there is a device")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stdout, "")
        self.assertIn("compare: --backend cuda: ", done.stderr)
        self.assertIn("leave --backend out", done.stderr)
        self.assertTrue("install the CUDA toolkit" in done.stderr or "no CUDA device was found" in done.stderr)

    def test_the_agreement_with_a_device(self):
        out = str(pathlib.Path(self.folder.name) / "figures.json")
        specs = ("knorm", "ada_knorm")
        arguments = (self.file, "--budget", 16, "--future", 8, "--backend", "cuda", "--json", out,
                     *(x for spec in specs for x in ("--policy", spec)))

        def agreements():
            figures = json.loads(pathlib.Path(out).read_text())
            self.assertEqual(figures["backend"], "cuda")
            return {run["policy"]: run["agreement"] for run in figures["policies"]}

        done = self.run_compare(*arguments, program=PRETENDING)
        for spec in specs:
            self.assertIn(f"{spec:9} all 64 slots are equal; scores within 0.0e+00", done.stdout)
        self.assertEqual(agreements()["knorm"], {"slots": 64, "differ": 0, "margin": 0, "score_error": 0})
        # Scores that are off by a fifth: slots near the threshold change, and these only.
        done = self.run_compare(*arguments, program=PRETENDING, pretend="scores")
        for spec, found in agreements().items():
            self.assertTrue(0 < found["differ"] < 20, (spec, found))
            self.assertTrue(0 < found["margin"] < 0.25, (spec, found))
            self.assertAlmostEqual(found["score_error"], 0.2, 3)
            self.assertIn(f"{found['differ']} of 64 slots differ", done.stdout)
        for what, says in (("slots", "layer 0: by the same scores the device selects other slots"),
                           ("bytes", "compacted other entries")):
            done = self.run_compare(*arguments, program=PRETENDING, pretend=what, code=2)
            self.assertIn(says, done.stderr)

    def test_help_names_every_flag(self):
        text = self.run_compare("--help").stdout
        for flag in ("--policy", "--budget", "--layers", "--future", "--decode", "--backend", "--selection", "--json",
                     "--pictures"):
            self.assertIn(flag, text)

    def test_mistakes_on_the_command_line(self):
        self.refused("--policy", "h2o", says=["FILE"])
        self.refused(self.file, "--policy", "nonsense", says=["nonsense", *NAMES, "ada_"])
        self.refused(self.file, "--policy", "snapkv:windows=3", says=["windows", "window", "pool_width", "recent"])
        self.refused(self.file, "--policy", "snapkv:pool=median", says=["median", "avg", "max", "none"])
        self.refused(self.file, "--policy", "snapkv:window=x", says=["window=x"])
        self.refused(self.file, "--policy", "snapkv:pool_width=4", says=["odd"])
        self.refused(self.file, "--policy", "ada_snapkv:floor=1.5", says=["floor"])
        self.refused(self.file, "--backend", "tpu", says=["tpu", "cpu", "cuda"])
        self.refused(self.file, "--backend", "cuda", "--decode", "4", "--future", "8", says=["--decode", "--backend"])
        self.refused(self.file, "--budget", "lots", says=["lots", "25%"])
        self.refused(self.file, "--budget", "0", says=["--budget"])
        self.refused(self.file, "--layers", "3", says=["3", "0, 7"])
        self.refused(self.file, "--future", "48", says=["--future", "48"])
        self.refused(self.file, "--future", "-1", says=["--future"])
        self.refused(self.file, "--decode", "0", "--future", "8", says=["--decode", "at least 1"])
        self.refused(self.file, "--decode", "4", says=["--decode", "--future"])
        done = self.run_compare(self.file, "--policy", "snapkv", "--budget", 16, code=2)
        self.assertIn("protected", done.stderr)

    def test_bad_files(self):
        good = safetensors(self.tensors)
        some = {k: v for k, v in self.tensors.items() if "keys" not in k}
        queries, keys, values = (self.tensors[f"layers.0.{x}"] for x in ("queries", "keys", "values"))

        def layer(q, k, v):
            return safetensors({"layers.0.queries": q, "layers.0.keys": k, "layers.0.values": v})

        def edited(name, **change):
            return safetensors(self.tensors, edit=lambda header: header[name].update(change))

        table = {
            "nothing": (b"", "too short"),
            "short": (good[:7], "too short"),
            "header_cut": (good[:40], "truncated"),
            "data_cut": (good[:-1], "past the end"),
            "length": (struct.pack("<Q", 2**63) + good[8:], "truncated"),
            "no_json": (struct.pack("<Q", 8) + b"not json", "JSON"),
            "a_list": (struct.pack("<Q", 2) + b"[]", "JSON object"),
            "no_layers": (safetensors({"weights": [1.0]}), "layers.L"),
            "missing": (safetensors(some), "layers.0.keys is missing"),
            "integers": (edited("layers.0.keys", dtype="I32"), "layers.0.keys: its dtype"),
            "dtype_5": (edited("layers.0.keys", dtype=5), "layers.0.keys: its dtype"),
            "two_extents": (edited("layers.7.values", shape=[2, 384]), "layers.7.values: its shape"),
            "negative": (edited("layers.7.values", shape=[2, -48, -8]), "layers.7.values: every extent"),
            "huge": (edited("layers.7.values", shape=[2**40, 2**40, 2**40]), "layers.7.values"),
            "zero": (edited("layers.7.values", shape=[2, 0, 8]), "layers.7.values: every extent"),
            "offset": (edited("layers.7.values", data_offsets=[0, 10**12]), "layers.7.values: its data_offsets"),
            "offset_order": (edited("layers.7.values", data_offsets=[8, 4]), "layers.7.values: its data_offsets"),
            "offset_negative": (edited("layers.7.values", data_offsets=[-4, 4]), "layers.7.values: its data_offsets"),
            "offset_size": (edited("layers.7.values", data_offsets=[0, 4]), "layers.7.values: its data_offsets"),
            "no_shape": (safetensors(self.tensors, edit=lambda h: h["layers.0.keys"].pop("shape")), "layers.0.keys"),
            "value_length": (layer(queries, keys, [h[:-1] for h in values]), "layers.0.values"),
            "value_heads": (layer(queries, keys, values[:1]), "layers.0.values"),
            "query_dim": (layer([[x[:-1] for x in h] for h in queries], keys, values), "layers.0.queries"),
            "query_heads": (layer(queries[:3], keys, values), "layers.0.queries"),
            "query_rows": (layer([h + h for h in queries], keys, values), "layers.0.queries"),
        }
        for name, (data, reason) in table.items():
            with self.subTest(name):
                path = self.write(name, data)
                self.refused(path, "--policy", "knorm", says=[path, reason])
        self.refused(self.folder.name + "/absent", says=["absent"])
        self.refused(self.folder.name, says=[self.folder.name])

    def test_outputs_that_cannot_be_written(self):
        done = self.run_compare(self.file, "--policy", "knorm", "--json", "/nonexistent/x.json", code=2)
        self.assertIn("/nonexistent/x.json", done.stderr)


if __name__ == "__main__":
    COMPARE, PRETENDING = sys.argv.pop(1), sys.argv.pop(1)
    unittest.main()
