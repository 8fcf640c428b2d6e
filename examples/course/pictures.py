#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""pictures.py [FOLDER]: draws the outputs NN_name.txt of the course beside them, or into FOLDER. No numbers of its own."""
import pathlib
import re
import sys

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "kvevict"
import matplotlib.pyplot as plt

HERE = pathlib.Path(__file__).resolve().parent


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


PICTURES = {
    "06_selection": selection,
    "07_positions": positions,
    "08_decode": decode,
    "09_own_policy": own_policy,
    "10_own_memory": own_memory,
}


def main(folder):
    for name, draw in PICTURES.items():
        figure = draw((HERE / f"{name}.txt").read_text(encoding="utf-8"))
        figure.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
        figure.savefig(folder / f"{name}.png", bbox_inches="tight", dpi=60) if folder != HERE else None
        plt.close(figure)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
