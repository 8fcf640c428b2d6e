# SPDX-License-Identifier: MIT
"""The comparison itself; run.py, which makes the environment and starts this, says what is compared and timed."""
import contextlib
import ctypes
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import statistics
import sys
import time
import types

import kvpress
import torch
import transformers
from kvpress.utils import get_prerope_query_states
from torch.nn import functional
from transformers.models.llama.modeling_llama import rotate_half

import run

KV_HEADS, QUERY_HEADS, DIM, WINDOW, POOL = 8, 32, 128, 64, 5
GROUP = QUERY_HEADS // KV_HEADS
KEPT, FLOOR = run.KEPT, 0.2
# Sets may differ by slots whose exact scores are this close, relatively: each side rounds its own sums.
TIE = 1e-5
# kvpress rounds the logits, the probabilities and their mean over rows to bf16, 8 bits: its sets then are others. So
# many of the slots must still be the same; kvevict's own bf16 sets must be those of the exact scores, as in fp32.
BF16_SAME = 0.9


def say(text):
    print(text, file=sys.stderr, flush=True)


def verify(right, what):
    if not right:
        sys.exit(f"wrong result, the run ends here: {what}")


class job(ctypes.Structure):
    """`peer_job` of peer.cpp."""
    _fields_ = ([(name, ctypes.c_void_p) for name in
                 ("queries", "log_sum_exp", "keys", "values", "kept_keys", "kept_values", "slots", "offsets")] +
                [(name, ctypes.c_int32) for name in
                 ("kv_heads", "query_heads", "length", "dim", "window", "budget", "threads", "bf16", "adaptive")] +
                [(name, ctypes.c_double) for name in ("score_seconds", "select_seconds", "compact_seconds")])


library = ctypes.CDLL(run.ROOT / "build" / "bench" / "bench" / "libkvevict_peer.so")
library.peer_run.argtypes, library.peer_run.restype = [ctypes.POINTER(job)], ctypes.c_char_p
library.peer_compiler.restype = ctypes.c_char_p
library.peer_limits.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_double), ctypes.POINTER(ctypes.c_double)]


def cpu_seconds_of_others():
    """Of all programs but this one, and what a hypervisor withheld; only differences mean anything."""
    with open("/proc/stat", encoding="utf-8") as stat:
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - time.process_time()


@contextlib.contextmanager
def watching(result):
    """Notes how many cores others kept busy meanwhile."""
    start, others = time.perf_counter(), cpu_seconds_of_others()
    yield
    result["cores_of_others"] = max(0, cpu_seconds_of_others() - others) / (time.perf_counter() - start)


def limits(threads):
    gflops, copy_gbs, found = ctypes.c_double(), ctypes.c_double(), {}
    with watching(found):
        library.peer_limits(threads, ctypes.byref(gflops), ctypes.byref(copy_gbs))
    return {"gflops": gflops.value, "copy_gbs": copy_gbs.value} | found


class tensors:
    """Attention that is not flat: the rows of a window ask alike, the query_heads of a group have a topic that some
    keys answer, in clusters of neighbours, heads differ in how much, and the first key is a sink. The best quarter of
    4096 keys gets half to three quarters of a window's attention to what lies before it."""

    def __init__(self, length, element):
        torch.manual_seed(20261125)
        normal = torch.randn
        topic = normal(KV_HEADS, 1, DIM)
        answer = 0.3 * functional.avg_pool1d(normal(KV_HEADS, length).square(), 9, 1, 4).unsqueeze(-1)
        answer[:, 0] = 2
        keys = normal(KV_HEADS, length, DIM) + (0.5 + torch.rand(KV_HEADS, 1, 1)) * answer * topic
        asks = (0.3 * topic + normal(KV_HEADS, 1, DIM)).repeat_interleave(GROUP, 0).transpose(0, 1)
        asks = (1 + torch.rand(1, QUERY_HEADS, 1)) * (asks + 0.5 * normal(1, QUERY_HEADS, DIM))
        queries = normal(WINDOW + 1, QUERY_HEADS, DIM) + asks  # one row more: kvpress wants more than the window
        values = normal(KV_HEADS, length, DIM)
        # A value's first two numbers say which slot it came from, exactly also in bf16; no score reads values.
        slots = torch.arange(length)
        values[..., 0], values[..., 1] = slots // 256, slots % 256
        self.length, self.element = length, element
        self.hidden = queries.view(1, WINDOW + 1, QUERY_HEADS * DIM).to(element)
        self.queries = self.hidden[0, 1:]
        self.keys, self.values = (t.unsqueeze(0).to(element) for t in (keys, values))
        rope = torch.ones(1, WINDOW + 1, DIM), torch.zeros(1, WINDOW + 1, DIM)
        self.rope = tuple(t.to(element) for t in rope)
        config = types.SimpleNamespace(num_attention_heads=QUERY_HEADS, num_key_value_heads=KV_HEADS,
                                       _attn_implementation="sdpa")
        self.module = types.SimpleNamespace(config=config, head_dim=DIM, q_proj=torch.nn.Identity())

    def press(self, adaptive):
        press = kvpress.SnapKVPress(1 - KEPT / self.length, window_size=WINDOW, kernel_size=POOL)
        return kvpress.AdaKVPress(press, FLOOR) if adaptive else press

    def kvpress(self, press):
        rope = {"position_embeddings": self.rope}
        return press.compress(self.module, self.hidden, self.keys, self.values, None, rope)

    def making_queries(self):
        """What compute_window_attention does before the product."""
        states = get_prerope_query_states(self.module, self.hidden[:, -WINDOW:])
        cos, sin = (t[:, -WINDOW:].unsqueeze(1) for t in self.rope)
        return states * cos + rotate_half(states) * sin

    def exact(self):
        """Scores, [kv_head][slot], in double precision and from the definition, the window infinite; and what attention
        of the window returns beside its result, the log-sum-exp of each row, [query_head][row], in fp32."""
        causal = torch.full((WINDOW, self.length), -math.inf, dtype=torch.double).triu(self.length - WINDOW + 1)
        scores = torch.full((KV_HEADS, self.length), math.inf, dtype=torch.double)
        log_sum_exp = torch.empty(KV_HEADS, GROUP, WINDOW)
        queries = self.queries.view(WINDOW, KV_HEADS, GROUP, DIM).double()
        for h in range(KV_HEADS):
            logits = queries[:, h].transpose(0, 1) @ self.keys[0, h].double().T / math.sqrt(DIM) + causal
            log_sum_exp[h] = logits.logsumexp(-1)
            attention = logits.softmax(-1)[..., :-WINDOW].mean((0, 1))
            scores[h, :-WINDOW] = functional.avg_pool1d(attention[None], POOL, 1, POOL // 2)[0]
        return scores, log_sum_exp


class ours:
    """kvevict on the same memory, with or without the rows' log-sum-exp."""

    def __init__(self, data, adaptive, threads, log_sum_exp=None):
        self.data, self.log_sum_exp = data, log_sum_exp
        self.slots = torch.empty(KV_HEADS * KEPT, dtype=torch.int32)
        self.offsets = torch.empty(KV_HEADS + 1, dtype=torch.int64)
        self.job = job(queries=data.queries.data_ptr(), slots=self.slots.data_ptr(), offsets=self.offsets.data_ptr(),
                       kv_heads=KV_HEADS, query_heads=QUERY_HEADS, length=data.length, dim=DIM, window=WINDOW,
                       budget=KEPT, threads=threads, bf16=data.element == torch.bfloat16, adaptive=adaptive)
        if log_sum_exp is not None:
            self.job.log_sum_exp = log_sum_exp.data_ptr()

    def call(self, keys, values, kept_keys, kept_values):
        self.job.keys, self.job.values, self.job.kept_keys, self.job.kept_values = keys, values, kept_keys, kept_values
        problem = library.peer_run(ctypes.byref(self.job))
        verify(problem is None, problem and problem.decode())

    def gathered(self):
        keys, values = (torch.empty(KV_HEADS * KEPT, DIM, dtype=self.data.element) for _ in range(2))
        self.call(self.data.keys.data_ptr(), self.data.values.data_ptr(), keys.data_ptr(), values.data_ptr())
        return keys, values

    def in_place(self, keys, values):
        self.call(keys.data_ptr(), values.data_ptr(), None, None)

    def stages(self):
        return {"score": self.job.score_seconds, "select": self.job.select_seconds, "compact": self.job.compact_seconds}


def slots_of(data, head, keys, values):
    """The slots that some kept entries of a head say they come from; they must be those slots' entries."""
    numbers = values[:, :2].float().long()
    slots = numbers[:, 0] * 256 + numbers[:, 1]
    right = torch.equal(keys, data.keys[0, head, slots]) and torch.equal(values, data.values[0, head, slots])
    verify(right, "kept keys and values are not those of one slot")
    return slots


def sets_of(data, entries):
    """[kv_head][slot]: which slots stay, from the keys and values of each head."""
    stays = torch.zeros(KV_HEADS, data.length, dtype=torch.bool)
    for head, (keys, values) in enumerate(entries):
        stays[head, slots_of(data, head, keys, values)] = True
        verify(stays[head].sum() == len(keys), "a slot was kept twice")
    return stays


def sets_of_kvpress(data, adaptive):
    keys, values = data.kvpress(data.press(adaptive))
    if not adaptive:
        return sets_of(data, zip(keys[0], values[0]))
    _, heads, slots = data.module.masked_key_indices
    stays = torch.ones(KV_HEADS, data.length, dtype=torch.bool)
    stays[heads, slots] = False
    return stays


def exact_sets(scores, adaptive):
    stays = torch.zeros_like(scores, dtype=torch.bool)
    if not adaptive:
        return stays.scatter(1, scores.topk(KEPT).indices, True)
    safe = stays.scatter(1, scores.topk(int(KEPT * FLOOR)).indices, True)
    best = scores.masked_fill(safe, math.inf).flatten().topk(KV_HEADS * KEPT).indices
    return stays.flatten().scatter(0, best, True).view_as(stays)


def distance(one, other, scores, adaptive):
    """How far apart, relatively, the scores are of the slots that one set has and the other has not."""
    worst = 0.0
    for a, b, s in [(one, other, scores)] if adaptive else zip(one, other, scores):
        if a.sum() != b.sum():
            return math.inf
        x, y = s[a & ~b].sort().values, s[b & ~a].sort().values
        worst = max([worst, *((x - y).abs() / torch.maximum(x, y)).tolist()])
    return worst


def check(data, adaptive, peer, scores, theirs):
    """Ends the run where a kept set is wrong; otherwise how it agrees with theirs."""
    expected = exact_sets(scores, adaptive)
    keys, values = peer.gathered()
    sizes = peer.offsets.diff().tolist()
    mine = sets_of(data, zip(keys.split(sizes), values.split(sizes)))
    moved_keys, moved_values = data.keys.clone(), data.values.clone()
    peer.in_place(moved_keys, moved_values)
    moved = [(moved_keys[0, h, :n], moved_values[0, h, :n]) for h, n in enumerate(sizes)]
    verify(torch.equal(sets_of(data, moved), mine), "compacted in place, kvevict keeps other slots")
    off = distance(mine, expected, scores, adaptive)
    verify(off <= TIE, f"kvevict's kept sets are not those of the exact scores, which differ by {off:.1e}")
    same = (mine & theirs).sum().item() / mine.sum().item()
    if data.element == torch.float32:
        off = distance(mine, theirs, scores, adaptive)
        verify(off <= TIE, f"the kept sets differ by slots whose exact scores differ by {off:.1e}")
    else:
        verify(same >= BF16_SAME, f"only {same:.1%} of the kept slots are the same")
    return {"kept": mine.sum().item(), "same": (mine & theirs).sum().item(), "per_head": sizes}


def seconds_of(call):
    start = time.perf_counter()
    result = call()  # held until the clock has stopped: neither side's time includes giving memory back
    seconds = time.perf_counter() - start
    del result
    return seconds


def measure(data, adaptive, threads, rounds, scores, log_sum_exp):
    press, theirs = data.press(adaptive), sets_of_kvpress(data, adaptive)
    peers = {"kvevict": ours(data, adaptive, threads), "given": ours(data, adaptive, threads, log_sum_exp)}
    row = {"keys": data.length, "element": str(data.element).removeprefix("torch."),
           "policy": "AdaKV" if adaptive else "SnapKV", "threads": threads,
           "agreement": {side: check(data, adaptive, peer, scores, theirs) for side, peer in peers.items()},
           "rounds": []}
    moved_keys, moved_values = data.keys.clone(), data.values.clone()
    with watching(row):
        for _ in range(rounds + 1):
            one = {"kvpress": seconds_of(lambda: data.kvpress(press))}
            for side, peer in peers.items():
                one[side] = seconds_of(peer.gathered)
                one |= {f"{side}_{stage}": seconds for stage, seconds in peer.stages().items()}
            moved_keys.copy_(data.keys)
            moved_values.copy_(data.values)
            peers["kvevict"].in_place(moved_keys, moved_values)
            row["rounds"].append(one | {"in_place": peers["kvevict"].stages()["compact"]})
    del row["rounds"][0]
    row["median"] = {name: statistics.median(r[name] for r in row["rounds"]) for name in row["rounds"][0]}
    row["best"] = {name: min(r[name] for r in row["rounds"]) for name in row["rounds"][0]}
    row["making_queries"] = min(seconds_of(data.making_queries) for _ in range(rounds))
    for of in ("median", "best"):
        row[f"ratio_of_{of}s"] = {side: row[of]["kvpress"] / row[of][side] for side in peers}
    return row


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def openmp_runtimes():
    """Files of OpenMP runtimes in this process; with two of them, one side's idle threads would disturb the other."""
    maps = pathlib.Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return sorted({line.split()[-1] for line in maps if "libgomp" in line or "libomp" in line or "libiomp" in line})


def table(results, side, further):
    """One line per row; `further` columns by name, each a function of a row and its medians in milliseconds."""
    header = ["keys", "element", "policy", "threads", "kvpress", "kvevict", "ratio", "best", "score", "of peak",
              "same slots", *further]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for r in results["rows"]:
        ms, agreement = {name: 1e3 * seconds for name, seconds in r["median"].items()}, r["agreement"][side]
        flops = 2 * QUERY_HEADS * WINDOW * DIM * r["keys"]
        share = flops / 1e6 / ms[f"{side}_score"] / results["limits"][str(r["threads"])]["gflops"]
        line = [r["keys"], r["element"], r["policy"], r["threads"], f"{ms['kvpress']:.1f}", f"{ms[side]:.2f}",
                f"**{r['ratio_of_medians'][side]:.1f}**", f"{r['ratio_of_bests'][side]:.1f}",
                f"{ms[f'{side}_score']:.2f}", f"{share:.2f}",
                f"{agreement['same']} of {agreement['kept']}", *(column(r, ms) for column in further.values())]
        lines.append("| " + " | ".join(map(str, line)) + " |")
    return lines


def markdown(results):
    lines = [f"kvpress {results['kvpress']}, torch {results['torch']} ({results['torch_cpu']}), transformers "
             f"{results['transformers']}; kvevict by {results['compiler']}; {results['cpu']}, {results['cores']} "
             f"cores; {results['date']}.", ""]
    for threads, m in results["limits"].items():
        lines.append(f"- limits of {threads} thread{'s' if threads != '1' else ''}: {m['gflops']:.1f} GFLOP/s "
                     f"multiply-add, {m['copy_gbs']:.1f} GB/s memcpy (read + write); others {m['cores_of_others']:.2f}")
    lines += ["", f"Milliseconds, medians of {results['timed_rounds']} rounds; `best` is the ratio of the fastest "
              "rounds. `of peak`: useful operations of Q K^T in kvevict's scoring over the fp32 multiply-add peak. "
              "AdaKVPress masks; it compacts nothing, kvevict does. `others`: cores that other programs kept busy "
              "meanwhile; where threads and they do not fit together, the times mean little.", ""]
    lines += table(results, "kvevict", {"select": lambda r, ms: f"{ms['kvevict_select']:.3f}",
                                        "compact": lambda r, ms: f"{ms['kvevict_compact']:.3f}",
                                        "in place": lambda r, ms: f"{ms['in_place']:.3f}",
                                        "others": lambda r, ms: f"{r['cores_of_others']:.2f}"})
    lines += ["", "The same rounds, kvevict given the log-sum-exp of the window's rows, which an engine that has run "
              "attention has. kvpress has no such input: its times are those above.", ""]
    lines += table(results, "given", {})
    slowest = max(results["rows"], key=lambda r: r["making_queries"] / r["median"]["kvpress"])
    lines += ["", f"Making queries, which kvpress' time includes: at most {1e3 * slowest['making_queries']:.2f} ms of "
              f"{1e3 * slowest['median']['kvpress']:.1f} ms ({slowest['keys']} keys, {slowest['element']}, "
              f"{slowest['policy']}, threads {slowest['threads']})."]
    return "\n".join(lines) + "\n"


@torch.inference_mode()
def main():
    args = run.arguments()
    results = {"kvpress": importlib.metadata.version("kvpress"), "torch": torch.__version__,
               "torch_cpu": torch.backends.cpu.get_cpu_capability(), "transformers": transformers.__version__,
               "compiler": library.peer_compiler().decode(), "cpu": cpu_model(), "cores": os.cpu_count(),
               "date": datetime.datetime.now().isoformat(" ", "minutes"),
               "timed_rounds": args.rounds, "openmp": openmp_runtimes()}
    if len(results["openmp"]) != 1:
        say(f"note: this process has {len(results['openmp'])} OpenMP runtimes, whose threads may disturb each other")
    say("peers: the limits of this machine")
    results["limits"], results["rows"] = {str(n): limits(n) for n in args.threads}, []
    for length in args.keys:
        for element in (torch.float32, torch.bfloat16):
            data = tensors(length, element)
            torch.set_num_threads(max(args.threads))
            scores, log_sum_exp = data.exact()
            for adaptive in (False, True):
                for threads in args.threads:
                    torch.set_num_threads(threads)
                    row = measure(data, adaptive, threads, args.rounds, scores, log_sum_exp)
                    results["rows"].append(row)
                    say(f"peers: {length} keys, {row['element']}, {row['policy']}, threads {threads}: "
                        f"{row['ratio_of_medians']['kvevict']:.1f} times as fast, "
                        f"{row['ratio_of_medians']['given']:.1f} with a log-sum-exp")
    text = markdown(results)
    print(text, end="")
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
