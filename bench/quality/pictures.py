# SPDX-License-Identifier: MIT
"""Pictures of results, as PNG."""
import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

import paired  # noqa: E402

plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110})
COLORS = [plt.get_cmap("tab20")(i) for i in (*range(0, 20, 2), *range(1, 20, 2))]
MARKERS = "osD^vPX"
SHORT = {"prose": "prose, ln KLD", "copy": "copying, NLL", "needle-1-after": "needle, asked after, NLL",
         "needle-1-before": "needle, asked before, NLL", "needle-4-after": "one of 4, asked after, NLL",
         "needle-4-before": "one of 4, asked before, NLL"}


def png(figure):
    out = io.BytesIO()
    figure.savefig(out, format="png", bbox_inches="tight", dpi=110)
    plt.close(figure)
    return out.getvalue()


def legend(axes):
    """One for all axes, beside the last."""
    labels = {}
    for axis in axes:
        handles, texts = axis.get_legend_handles_labels()
        labels |= dict(zip(texts, handles))
    axes[-1].legend(labels.values(), labels.keys(), bbox_to_anchor=(1.02, 1), loc="upper left", frameon=False)


def plain_and_adaptive(policies):
    """Two lists of (base name, policy): those of the curves, which have no options unless all are few."""
    shown = policies if len(policies) <= 10 else [p for p in policies if ":" not in p]
    base = {p: p.removeprefix("ada_") for p in shown}
    return [[(base[p], p) for p in shown if p.startswith("ada_") == ada] for ada in (False, True)]


def curves(results, measure, fields):
    """A row per field, policies on the left, with Ada-KV's budgets on the right; colours are the same in both."""
    halves = [half for half in plain_and_adaptive(results.policies(measure)) if half]
    names = list(dict.fromkeys(name for half in halves for name, _ in half))
    budgets = results.budgets(measure)
    figure, axes = plt.subplots(len(fields), len(halves), figsize=(4.9 * len(halves) + 1.5, 3.5 * len(fields)),
                                squeeze=False, sharey="row", layout="constrained")
    for row, (field, title, log) in zip(axes, fields):
        for axis, half in zip(row, halves):
            for name, policy in half:
                i = names.index(name)
                points = [(x, results.summary(measure, policy, b)[field]) for x, b in enumerate(budgets)
                          if results.has(measure, policy, b)]
                shift = 0.4 * ((i + 0.5) / len(names) - 0.5)
                axis.errorbar([x + shift for x, _ in points], [m.mean for _, m in points],
                              yerr=[m.error or 0 for _, m in points], color=COLORS[i % 20], marker=MARKERS[i % 7],
                              markersize=4, linewidth=1, capsize=2, label=name)
            if not log and results.has(measure, *paired.FULL):
                axis.axhline(results.summary(measure, *paired.FULL)[field].mean, color="black", linestyle=":",
                             linewidth=1, label="full cache")
            if log:
                axis.set_yscale("log")
            axis.set_xticks(range(len(budgets)), budgets)
            adaptive = half[0][1].startswith("ada_")
            axis.set(xlabel="kept", title="with Ada-KV's budgets" if adaptive else "one budget for all heads of a layer")
            axis.grid(alpha=0.3, which="both", axis="y")
        row[0].set_ylabel(title)
    legend(axes[0])
    return png(figure)


def differences(results, pairs):
    """A panel per measure, a line per pair of policies, a colour per budget: the difference and two errors each way."""
    measures = [m for m in results.measures() if any(
        results.has(m, c.first, b) and results.has(m, c.second, b) for c in pairs for b in results.budgets(m))]
    if not measures:
        return None
    figure, axes = plt.subplots(1, len(measures), figsize=(2.3 * len(measures) + 3, 0.36 * len(pairs) + 1.4),
                                squeeze=False, sharey=True, layout="constrained")
    for axis, measure in zip(axes[0], measures):
        budgets = results.budgets(measure)
        for i, budget in enumerate(budgets):
            shift = 0.5 * ((i + 0.5) / len(budgets) - 0.5)
            points = [(y + shift, pair.difference) for y, c in enumerate(pairs)
                      if (pair := results.pair(measure, (c.first, budget), (c.second, budget),
                                               paired.compared(measure)))]
            axis.errorbar([m.mean for _, m in points], [y for y, _ in points],
                          xerr=[2 * (m.error or 0) for _, m in points], fmt=MARKERS[i % 7], markersize=3.5, linewidth=1,
                          color=COLORS[i % 20], label=f"{budget} kept")
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set_title(SHORT.get(measure, measure), fontsize=8)
        axis.grid(alpha=0.3, axis="x")
    axes[0][0].set_yticks(range(len(pairs)), [c.label for c in pairs])
    axes[0][0].set_ylim(len(pairs) - 0.5, -0.5)
    legend(axes[0])
    figure.supxlabel("with less without; below 0 it helped", fontsize=8)
    return png(figure)
