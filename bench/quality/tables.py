# SPDX-License-Identifier: MIT
"""Results as tables in text."""
import math

import paired

NAMES = {"prose": "Prose", "copy": "Copying word for word",
         "needle-1-after": "One needle, question after the eviction",
         "needle-1-before": "One needle, question before the eviction",
         "needle-4-after": "One needle of four, question after the eviction",
         "needle-4-before": "One needle of four, question before the eviction"}
# field of Results.summary: (head, format, factor)
COLUMNS = {
    "kld": ("KLD", ".3f", 1), "geometric_kld": ("geometric KLD", ".4f", 1),
    "perplexity_change": ("perplexity, %", "+.1f", 1), "agreement": ("same top token, %", ".1f", 100),
    "accuracy": ("right tokens, %", ".1f", 100), "exact": ("all right, %", ".0f", 100), "nll": ("NLL", ".2f", 1)}


def columns(measure):
    if measure == "prose":
        return ["kld", "geometric_kld", "perplexity_change", "agreement"]
    return ["nll", "accuracy"] if measure == "copy" else ["nll", "exact"]


def name(measure):
    return NAMES.get(measure, measure)


def number(value, form, factor=1):
    """mean ± standard error"""
    shown = format(factor * value.mean, form)
    return shown if value.error is None else f"{shown} ± {format(factor * value.error, form.lstrip('+'))}"


def z(pair):
    value = pair and pair.difference.z
    return "" if value is None else f"{value:+.1f}"


def ratio(log):
    return format(math.exp(log), ".2f")


def rows(results, measure, budget):
    """Cells of each policy, the lowest first: its columns, its difference to the lowest, z, and equal signs."""
    for policy, _, pair in results.ranking(measure, budget):
        summary = results.summary(measure, policy, budget)
        cells = [number(summary[c], *COLUMNS[c][1:]) if c in summary else "" for c in columns(measure)]
        if pair is None:
            yield [policy, *cells, "lowest", "", ""]
        else:
            yield [policy, *cells, number(pair.difference, "+.3f"), z(pair),
                   f"{pair.same_sign} of {pair.difference.count}"]


def heads(measure):
    what = "ln KLD" if paired.compared(measure) == "log_kld" else "NLL"
    return ["policy", *(COLUMNS[c][0] for c in columns(measure)), f"{what} above the lowest", "z", "same sign"]


def aligned(table):
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table)
    return "\n".join(line.rstrip() for line in lines)


def full_line(results, measure):
    if not results.has(measure, *paired.FULL):
        return ""
    summary = results.summary(measure, *paired.FULL)
    fields = dict.fromkeys(["nll", "accuracy", *columns(measure)])
    shown = []
    for field in (f for f in fields if f in ("nll", "accuracy", "exact")):
        head, *form = COLUMNS[field]
        shown.append(head.replace(", %", "") + " " + number(summary[field], *form) + " %" * head.endswith("%"))
    return f"The full cache: {', '.join(shown)}; {summary['nll'].count} samples."


def text(results):
    out = []
    for measure in results.measures():
        out.append(f"\n{name(measure)}. {full_line(results, measure)}")
        for budget in results.budgets(measure):
            out += [f"\n{budget} kept", aligned([heads(measure), *rows(results, measure, budget)]),
                    results.verdict(measure, budget)]
    for (measure, policy, budget), problem in results.problems.items():
        out.append(f"not run: {policy} at {budget}, {name(measure)}: {problem}")
    return "\n".join(out)
