#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pictures.py [NN_name ...]: draws what the programs of the course print, NN_name.txt, as NN_name.png.

Every number comes from the text. The picture holds a digest of it, so that a test sees when one is newer."""
import hashlib
import pathlib
import re
import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})


def numbers(text):
    """The numbers of every line that has some."""
    return [[float(x) for x in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", line)] for line in text.splitlines()]


def table(text, columns):
    """Lines of exactly that many numbers."""
    return np.array([row for row in numbers(text) if len(row) == columns])


def panels(count, height=3.2, width=8.2):
    figure, axes = plt.subplots(1, count, figsize=(width, height), layout="constrained")
    return figure, axes


def bars(axis, names, groups, labels, unit):
    """Groups of bars, one group per label."""
    width = 0.8 / len(names)
    for i, (name, values) in enumerate(zip(names, groups)):
        axis.bar(np.arange(len(labels)) + (i - (len(names) - 1) / 2) * width, values, width, label=name)
    axis.set_xticks(np.arange(len(labels)), labels)
    axis.set_ylabel(unit)


def cache_cost(text):
    figure, axes = panels(2)
    for axis, block in zip(axes, text.strip().split("\n\n")):
        rows = table(block, 5)
        weights = float(re.search(r"weights ([\d.]+)", block)[1])
        for column, label in ((1, "whole cache"), (3, "25 % kept"), (4, "1024 slots kept")):
            axis.loglog(rows[:, 0], rows[:, column], "o-", label=label, base=10)
        axis.axhline(weights, color="gray", linestyle="--", label="the weights")
        axis.set_xticks(rows[:, 0], [f"{int(n) // 1024}k" for n in rows[:, 0]])
        axis.minorticks_off()
        axis.set(title=block.split(":")[0], xlabel="tokens", ylabel="GB")
    axes[0].legend(fontsize=9)
    return figure


def early_tokens(text):
    figure, (left, right) = panels(2)
    rows = table(text, 4)
    left.plot(rows[:, 0], rows[:, 1], color="black", label=r"theorem, $H_n - H_{j-1}$")
    left.plot(rows[:, 0], rows[:, 2], "o", label="sum of all rows")
    left.plot(rows[:, 0], rows[:, 3], "s", label="sum of the last 8 rows")
    left.set(xlabel="token j of 64", ylabel="mean score", title="random keys and queries")
    left.legend(fontsize=9)
    shares = re.findall(r"^(\S.{27})((?: +\d+%){5})$", text, re.M)
    bars(right, [name.strip() for name, _ in shares], [[int(x) for x in re.findall(r"\d+", v)] for _, v in shares],
         ["first", "2nd", "3rd", "4th", "last"], "% of what is kept")
    right.axhline(20, color="gray", linestyle="--")
    right.set(xlabel="fifth of the text", title="SmolLM2-135M")
    right.legend(fontsize=9, loc="upper left")
    return figure


def step_gain(text):
    figure, (left, right) = panels(2)
    rows, target = table(text, 8), float(re.search(r"to be ln k = ([\d.]+)", text)[1])
    for column, style, label in ((3, "C0o--", "spread 1, plain"), (4, "C0o-", "spread 1, step gain"),
                                 (6, "C1s--", "spread 3.9, plain"), (7, "C1s-", "spread 3.9, step gain")):
        left.semilogx(rows[:, 0], rows[:, column], style, label=label)
    left.axhline(target, color="gray", linestyle=":", label="ln k")
    left.set_xticks(rows[:, 0], [int(x) for x in rows[:, 0]])
    left.minorticks_off()
    left.set(xlabel="i / k", ylabel="entropy, nats", title="normal keys", ylim=(0, 11.5))
    left.legend(fontsize=8.5, ncols=2, loc="upper left")
    layers, targets = table(text, 6), [float(x) for x in re.search(r"kept: ln k = (.*)", text)[1].split()]
    layers = layers[-4:]
    bars(right, ["plain", "step, 50 %", "step, 25 %", "step, 10 %"], layers[:, 2:].T,
         [f"layer {int(n)}" for n in layers[:, 0]], "entropy, nats")
    for value, color in zip(targets, ("C1", "C2", "C3")):
        right.axhline(value, color=color, linestyle=":")
    right.set(title="SmolLM2-135M; dotted: ln k, the aim", ylim=(0, 9.5))
    right.legend(fontsize=8.5, ncols=2, loc="upper left")
    return figure


def value_prior(text):
    figure, (left, right) = panels(2)
    rows = table(text, 8)
    labels = [f"{int(r[0])}.{int(r[1])}" for r in rows]
    bars(left, ["slot 0", "median"], rows[:, 2:4].T, labels, "prior")
    bars(right, ["without prior", "with prior"], rows[:, 4:6].T, labels, "slot 0, % of all scores")
    for axis in (left, right):
        axis.set_xlabel("layer.kv_head")
        axis.tick_params(axis="x", labelrotation=60)
        axis.set_ylim(top=axis.get_ylim()[1] * 1.2)
        axis.legend(fontsize=9, loc="upper left")
    return figure


def head_budgets(text):
    found = re.findall(r"^ *(\d+)  (\w.{15}) +(\d+) +(\d+) +(\d+) +([\d.]+)% +([\d.]+) +([\d.]+)$", text, re.M)
    layers = sorted({int(row[0]) for row in found})
    rules = [row[1].strip() for row in found if int(row[0]) == layers[0]]
    figure, (left, middle, right) = panels(3, width=9.6)
    of = {(int(row[0]), row[1].strip()): [float(x) for x in row[2:]] for row in found}
    shown = layers[2]
    bottom = np.zeros(len(rules))
    for head in range(3):
        values = np.array([of[shown, rule][head] for rule in rules])
        left.bar(range(len(rules)), values, bottom=bottom, label=f"kv_head {head}")
        bottom += values
    left.set_xticks(range(len(rules)), [rule.replace(", ", "\n") for rule in rules], fontsize=9)
    left.set(title=f"layer {shown}", ylabel="slots", ylim=(0, 600))
    left.legend(fontsize=8.5, loc="upper left", ncols=2)
    for axis, column, title in ((middle, 4, "bound"), (right, 5, r"$\|y - y'\|_1$")):
        bars(axis, rules, [[of[layer, rule][column] for layer in layers] for rule in rules], layers, "")
        axis.set(title=title, xlabel="layer")
    middle.legend(fontsize=8.5, loc="upper left")
    return figure


def selection(text):
    """The small rows as tables: what is protected, what stays by its score, what goes."""
    figure, axes = plt.subplots(figsize=(8, 2.6))
    rows = re.findall(r"^(\D.{15})((?: {0,3}(?:-?\d|nan)[P* ]){10})$", text, re.M)
    colours = {"P": "#7a9cc6", "*": "#8cc084", " ": "#eeeeee"}
    for y, (name, cells) in enumerate(rows):
        for x, (score, kind) in enumerate(re.findall(r"(-?\d|nan)([P* ])", cells)):
            axes.add_patch(plt.Rectangle((x, -y), 0.94, -0.9, color=colours[kind]))
            axes.text(x + 0.47, -y - 0.45, score, ha="center", va="center")
    axes.set(xlim=(0, 10), ylim=(-len(rows), 0), xlabel="slot", xticks=[x + 0.47 for x in range(10)],
             xticklabels=range(10), yticks=[-y - 0.45 for y in range(len(rows))],
             yticklabels=[name.strip() for name, _ in rows])
    axes.legend([plt.Rectangle((0, 0), 1, 1, color=c) for c in colours.values()],
                ["protected", "stays by its score", "evicted"], loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return figure


def positions(text):
    """Logits of the same keys before and after the gap is closed."""
    lines = [[float(x) for x in line.split()] for line in text.split("logit\n")[-1].splitlines()]
    figure, axes = plt.subplots(figsize=(8, 3.4))
    places = range(len(lines))
    axes.bar([x - 0.2 for x in places], [row[2] for row in lines], 0.4, label="positions as written")
    axes.bar([x + 0.2 for x in places], [row[5] for row in lines], 0.4, label="renumbered, keys turned")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xticks=places, xticklabels=[f"{row[0]:.0f}\n{row[1]:.0f} / {row[4]:.0f}" for row in lines],
             xlabel="position of the key, and its distance from the query before / after", ylabel="logit")
    axes.legend()
    return figure


def decode(text):
    """Where the slots come from that each policy holds at the end."""
    rows = [line.split() for line in text.splitlines()[2:]]
    figure, axes = plt.subplots(figsize=(8, 3))
    left = [0.0] * len(rows)
    for column, label in enumerate(["first 4", "of the prompt", "generated", "last 64"], 2):
        shares = [float(row[column].rstrip("%")) for row in rows]
        axes.barh([row[0] for row in rows], shares, left=left, label=label)
        left = [a + b for a, b in zip(left, shares)]
    axes.invert_yaxis()
    axes.set(xlabel="share of the held slots, %", xlim=(0, 101))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)
    return figure


def own_policy(text):
    """What the policy has in common with others, and what joint budgets give its heads."""
    rows = [[float(x.rstrip("%")) for x in line.split()] for line in text.splitlines()[2:]]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for i, label in enumerate(["snapkv", "keydiff", "random"]):
        left.bar([x + 0.27 * (i - 1) for x in range(len(rows))], [row[1 + i] for row in rows], 0.27, label=label)
    for head in range(3):
        right.bar([x + 0.27 * (head - 1) for x in range(len(rows))], [row[5 + head] for row in rows], 0.27,
                  label=f"head {head}")
    right.axhline(rows[0][4], color="black", linestyle="--", label="alone")
    left.set(ylabel="slots in common, %", ylim=(0, 125), yticks=range(0, 101, 20))
    right.set(ylabel="slots with adakv", ylim=(0, 640))
    for axes in (left, right):
        axes.set(xlabel="layer", xticks=range(len(rows)), xticklabels=[f"{row[0]:.0f}" for row in rows])
        axes.legend(ncols=2, fontsize=9)
    return figure


def own_memory(text):
    """How many slots the heads of the engine hold after the eviction."""
    rows = re.findall(r"kv_head (\d) holds +(\d+) of (\d+)", text)
    figure, axes = plt.subplots(figsize=(8, 2.2))
    names = [f"kv_head {head}" for head, _, _ in rows]
    axes.barh(names, [int(room) for _, _, room in rows], color="#eeeeee", label="before")
    bars = axes.barh(names, [int(held) for _, held, _ in rows], label="after the eviction")
    axes.bar_label(bars, padding=3)
    axes.invert_yaxis()
    axes.set(xlabel="slots")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure


def main(names):
    for path in sorted(HERE.glob("[0-9]*.txt")):
        if names and path.stem not in names:
            continue
        text = path.read_text(encoding="utf-8")
        figure = globals()[path.stem.partition("_")[2]](text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        figure.savefig(path.with_suffix(".png"), dpi=90, bbox_inches="tight",
                       metadata={"Source": f"{path.name} {digest}", "Software": None})
        plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
