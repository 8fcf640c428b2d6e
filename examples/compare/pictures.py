#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws comparison.json of a folder into pictures and one page, index.html. Called by `compare --pictures FOLDER`."""
import html
import json
import pathlib
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110})
COLORS = [plt.get_cmap("tab20")(i) for i in range(20)]
MARKERS = "osD^vP"


def short(spec):
    return spec if len(spec) <= 34 else spec[:33] + "…"


def retained(results, selection, layers):
    """Which positions each policy keeps: a row per kv_head, a block per policy, a panel per layer."""
    length = results["length"] + (results["future"] if results["decode"] else 0)
    specs = [p["policy"] for p in results["policies"] if p["policy"] in selection]
    bins = min(length, 700)
    of_slot = np.arange(length) * bins // length
    size = np.bincount(of_slot, minlength=bins)
    columns = min(2, len(layers))
    rows = -(-len(layers) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(6.5 * columns + 1, (0.24 * len(specs) + 1) * rows), squeeze=False,
                                layout="constrained")
    for axis in axes.flat[len(layers):]:
        axis.set_visible(False)
    for axis, layer in zip(axes.flat, layers):
        picture, middles, row = [], [], 0
        for spec in specs:
            heads = selection[spec][str(layer)]
            middles.append(row + (len(heads) - 1) / 2)
            for slots in heads:
                picture.append(np.bincount(of_slot[slots], minlength=bins) / size)
            picture.append(np.full(bins, np.nan))  # a gap between policies
            row += len(heads) + 1
        axis.imshow(np.array(picture[:-1]), aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest",
                    extent=(0, length, row - 1.5, -0.5))
        axis.set_yticks(middles, [short(s) for s in specs])
        axis.tick_params(axis="y", length=0)
        axis.set_title(f"layer {layer}")
        axis.set_xlabel("position")
    return figure


def error(results):
    """Output error against budget, every policy."""
    figure, axis = plt.subplots(figsize=(9, 5.5))
    specs = [p["policy"] for p in results["policies"] if "problem" not in p and p["policy"] != "full"]
    for i, spec in enumerate(specs):
        points = sorted((100 * p["kept"], p["output_error"]) for p in results["sweep"]
                        if p["policy"] == spec and "problem" not in p)
        if points:
            axis.plot(*zip(*points), color=COLORS[i % 20], marker=MARKERS[i % 6], markersize=4, label=short(spec))
    axis.set(yscale="log", xlabel="slots kept, %", ylabel="relative error of the attention output")
    axis.grid(alpha=0.3, which="both")
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left", frameon=False)
    return figure


def budgets(results):
    """How many slots each head of each layer keeps."""
    ran = [p for p in results["policies"] if "problem" not in p]
    table = np.array([[n for layer in p["layers"] for n in layer["retained_slots"]] for p in ran])
    heads = [f"{layer['layer']}.{h}" for layer in ran[0]["layers"] for h in range(len(layer["retained_slots"]))]
    figure, axis = plt.subplots(figsize=(max(6, 0.42 * len(heads) + 3), 0.3 * len(ran) + 1.4))
    image = axis.imshow(table, aspect="auto", cmap="viridis", vmin=0)
    if table.size <= 400:
        for (y, x), n in np.ndenumerate(table):
            axis.text(x, y, n, ha="center", va="center", fontsize=7,
                      color="black" if n > 0.6 * table.max() else "white")
    axis.set_yticks(range(len(ran)), [short(p["policy"]) for p in ran])
    step = max(1, len(heads) // 32)
    axis.set_xticks(range(0, len(heads), step), heads[::step], rotation=90 if len(heads) > 16 else 0)
    axis.set_xlabel("layer.kv_head")
    figure.colorbar(image, label="slots kept")
    return figure


def memory(results):
    """Memory held while the future tokens come, all layers: whole, and the budgets closer."""
    mib = results["entry_bytes"] / 2**20
    steps = np.arange(results["future"] + 1)
    curves = {}  # policies whose memory is the same share a line
    for p in (p for p in results["policies"] if "problem" not in p):
        held = np.zeros(2 * len(steps))  # before and after the eviction of each step
        for layer in p["layers"]:
            heads = len(layer["retained_slots"])
            slots, since, events = results["length"] * heads, 0, {e["after"]: e["slots_left"] for e in layer["evictions"]}
            for t in steps:
                held[2 * t] += slots + heads * (t - since)
                if t in events:
                    slots, since = events[t], t
                held[2 * t + 1] += slots + heads * (t - since)
        curves.setdefault(tuple(held * mib), []).append(short(p["policy"]))
    figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
    closer = [c[1:] for c, names in curves.items() if names != ["full"]] or [c[1:] for c in curves]
    for axis in axes:
        for i, (curve, names) in enumerate(curves.items()):
            label = ", ".join(names) if len(names) < 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
            axis.plot(np.repeat(steps, 2), curve, color=COLORS[2 * i % 20], linewidth=1.4, label=label)
        axis.set(xlabel="tokens after the prompt", ylabel="keys and values held, MiB")
        axis.grid(alpha=0.3)
    axes[0].set_ylim(0, None)
    low, high = min(map(min, closer)), max(map(max, closer))
    axes[1].set(ylim=(low - 0.3 * (high - low) - 1e-9, high + 0.3 * (high - low) + 1e-9), title="the evicted ones, closer")
    axes[0].legend(frameon=False, loc="center right")
    return figure


def times(results):
    """Time of each stage, beside a plain copy of the same cache."""
    ran = [p for p in results["policies"] if "problem" not in p][::-1]
    figure, axis = plt.subplots(figsize=(8, 0.3 * len(ran) + 1.4))
    rows = range(len(ran))
    for stage, color in (("score", "tab:blue"), ("select", "tab:orange"), ("compact", "tab:green")):
        axis.plot([1e3 * p["seconds"][stage] for p in ran], rows, "o", color=color, label=stage)
    copy = 1e3 * float(np.median([p["seconds"]["copy"] for p in ran]))
    axis.axvline(copy, color="black", linestyle="--", linewidth=1, label="memcpy of the cache")
    axis.set(xscale="log", xlabel="milliseconds, all layers")
    axis.set_yticks(rows, [short(p["policy"]) for p in ran])
    axis.grid(alpha=0.3, which="both")
    axis.legend(bbox_to_anchor=(1.01, 1), loc="upper left", frameon=False)
    return figure


def table(results):
    columns = [("policy", lambda p: p["policy"]), ("kept", lambda p: f"{100 * p['kept']:.1f} %"),
               ("mass kept", lambda p: f"{100 * p['attention_mass_kept']:.2f} %"),
               ("output error", lambda p: f"{p['output_error']:.4f}"),
               ("L1 distance", lambda p: f"{p['output_distance']:.2f}"),
               ("Ada-KV's bound", lambda p: f"{p['output_bound']:.2f}"),
               ("score ms", lambda p: f"{1e3 * p['seconds']['score']:.2f}"),
               ("select ms", lambda p: f"{1e3 * p['seconds']['select']:.3f}"),
               ("compact ms", lambda p: f"{1e3 * p['seconds']['compact']:.3f}"),
               ("freed MiB", lambda p: f"{p['bytes_freed'] / 2**20:.2f}")]
    if not results["future"]:
        columns = [c for c in columns if c[0] not in ("mass kept", "output error", "L1 distance", "Ada-KV's bound")]
    lines = ["<table><tr>" + "".join(f"<th>{name}</th>" for name, _ in columns) + "</tr>"]
    for p in results["policies"]:
        if "problem" in p:
            lines.append(f"<tr><td>{html.escape(p['policy'])}</td>"
                         f"<td colspan={len(columns) - 1}>not run: {html.escape(p['problem'])}</td></tr>")
        else:
            lines.append("<tr>" + "".join(f"<td>{html.escape(show(p))}</td>" for _, show in columns) + "</tr>")
    return "\n".join(lines) + "</table>"


def main():
    folder = pathlib.Path(sys.argv[1])
    data = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    results, selection = data["results"], data["selection"]
    if not selection:
        sys.exit("pictures: no policy ran, there is nothing to draw")
    layers = results["layers"]
    shown = layers if len(layers) <= 6 else [layers[i * (len(layers) - 1) // 5] for i in range(6)]

    drawn = [("retained", "Positions that stay", "Each block is a policy, each line in it a kv_head; dark is kept.",
              retained(results, selection, shown))]
    if results["sweep"]:
        drawn.append(("error", "Error against budget", "Over the future tokens, mean over the layers. Lower is better; "
                      "one text and one model, so a difference of a few per cent says little.", error(results)))
    drawn.append(("budgets", "Slots per head", "Uniform budgets, PyramidKV's layer schedule, Ada-KV's heads.",
                  budgets(results)))
    if results["decode"]:
        drawn.append(("memory", "Memory over time", "From the whole prompt to the budget; then one token at a time, evicted "
                      f"at {results['decode']} slots above the budget. Policies that hold the same amount share a line.",
                      memory(results)))
    drawn.append(("times", "Time per stage", "The fastest of up to ten runs, all cores. "
                  "The line is a plain copy of the same keys and values.", times(results)))

    parts = []
    for name, title, text, figure in drawn:
        figure.savefig(folder / f"{name}.png", bbox_inches="tight")
        parts.append(f'<h2>{title}</h2><p>{text}</p><img src="{name}.png" alt="{title}">')
    budget = results["policies"][0]["budget"]
    size = f"{budget['percent']:g} %" if budget["percent"] else f"{budget['slots']} slots"
    (folder / "index.html").write_text(f"""<!doctype html><meta charset="utf-8"><title>KV-cache eviction compared</title>
<style>body{{font:15px/1.5 sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}}img{{max-width:100%}}
table{{border-collapse:collapse;font-size:13px}}td,th{{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:right}}
td:first-child,th:first-child{{text-align:left}}</style>
<h1>KV-cache eviction compared</h1>
<p>{html.escape(pathlib.Path(results['file']).name)}: layers {', '.join(map(str, layers))}, {results['length']} slots per
head, budget {size}, judged by the {results['future']} tokens that follow.</p>
{table(results)}
{''.join(parts)}
""", encoding="utf-8")


if __name__ == "__main__":
    main()
