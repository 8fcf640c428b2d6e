# SPDX-License-Identifier: MIT
"""Statistics of results, paired by sample: the same text under two policies, never two texts.

Results are what measure_quality writes (main.cpp), as dictionaries. Errors are standard errors over samples; with 12
of them |z| > 2 happens by chance once in fourteen times, so among many pairs some are.
"""
import math
from typing import NamedTuple

FULL = ("full", "100%")
FEW = 8  # with fewer samples a standard error is too uncertain for a verdict
# What pairs of policies are compared by, lower is better: the logarithm of the KLD over prose, because few positions
# rule its mean; elsewhere the negative log-likelihood of what had to be said, because exact matches have a floor.
COMPARED = {"prose": "log_kld"}


def compared(measure):
    return COMPARED.get(measure, "nll")


class Mean(NamedTuple):
    mean: float
    error: float | None  # None when one sample cannot tell
    count: int

    @property
    def z(self):
        """How many standard errors the mean is away from nothing; None when that has no meaning."""
        if self.error is None or (self.error == 0 and self.mean == 0):
            return None
        return math.copysign(math.inf, self.mean) if self.error == 0 else self.mean / self.error


class Pair(NamedTuple):
    """How a policy differs from another on the same samples: below 0, the first is better."""
    difference: Mean
    same_sign: int  # samples whose difference has the mean's sign

    @property
    def clear(self):
        return self.difference.count >= FEW and self.difference.z is not None and abs(self.difference.z) > 2


def mean(values):
    values = list(values)
    n = len(values)
    if n == 0:
        raise ValueError("no values, no mean")
    middle = math.fsum(values) / n
    if n == 1:
        return Mean(middle, None, 1)
    variance = math.fsum((v - middle) ** 2 for v in values) / (n - 1)
    return Mean(middle, math.sqrt(variance / n), n)


def budget_order(budget):
    """Slots and shares apart, each by size."""
    return (budget.endswith("%"), float(budget.rstrip("%")))


class Results:
    """Results by (measure, policy, budget), then by sample. A run that has a problem is only remembered as such."""

    def __init__(self, lines):
        self.runs, self.problems = {}, {}
        for line in lines:
            key = (line["measure"], line["policy"], line["budget"])
            if "problem" in line:
                self.problems.setdefault(key, line["problem"])
            else:
                self.runs.setdefault(key, {})[line["sample"]] = line

    def measures(self):
        return list(dict.fromkeys(measure for measure, _, _ in self.runs))

    def policies(self, measure=None):
        return list(dict.fromkeys(p for m, p, b in self.runs if (p, b) != FULL and measure in (None, m)))

    def budgets(self, measure=None):
        return sorted({b for m, p, b in self.runs if (p, b) != FULL and measure in (None, m)}, key=budget_order)

    def has(self, measure, policy, budget):
        return (measure, policy, budget) in self.runs

    def values(self, measure, policy, budget, field):
        return {sample: line[field] for sample, line in self.runs[measure, policy, budget].items()}

    def mean(self, measure, policy, budget, field):
        return mean(self.values(measure, policy, budget, field).values())

    def summary(self, measure, policy, budget):
        """What a table says of one policy at one budget."""
        log_kld = self.mean(measure, policy, budget, "log_kld")
        out = {field: self.mean(measure, policy, budget, field)
               for field in ("kld", "agreement", "accuracy", "exact", "nll", "slots")}
        # The error of exp(x) is exp(x) times that of x, as long as it is small.
        geometric = math.exp(log_kld.mean)
        out["geometric_kld"] = Mean(geometric, log_kld.error and geometric * log_kld.error, log_kld.count)
        if self.has(measure, *FULL) and (change := self.pair(measure, (policy, budget), FULL, "nll")):
            ratio = math.exp(change.difference.mean)
            error = change.difference.error
            out["perplexity_change"] = Mean(100 * (ratio - 1), error and 100 * ratio * error, change.difference.count)
        return out

    def pair(self, measure, first, second, field):
        """first and second are (policy, budget); None where they share no sample."""
        if not (self.has(measure, *first) and self.has(measure, *second)):
            return None
        a, b = (self.values(measure, *run, field) for run in (first, second))
        differences = [a[sample] - b[sample] for sample in a if sample in b]
        if not differences:
            return None
        middle = mean(differences)
        same = sum(d * middle.mean > 0 for d in differences)
        return Pair(middle, same)

    def ranking(self, measure, budget):
        """(policy, its mean, its pair with the first) by what is compared, the lowest first."""
        field = compared(measure)
        present = [p for p in self.policies(measure) if self.has(measure, p, budget)]
        present.sort(key=lambda p: self.mean(measure, p, budget, field).mean)
        return [(p, self.mean(measure, p, budget, field),
                 self.pair(measure, (p, budget), (present[0], budget), field) if p != present[0] else None)
                for p in present]

    def verdict(self, measure, budget):
        """A sentence on who is lowest, which calls nobody best who is not clearly apart from each other policy."""
        order = self.ranking(measure, budget)
        if len(order) < 2:
            return "One policy alone: nothing to compare."
        lowest, others = order[0][0], order[1:]
        if max(value.count for _, value, _ in order) < FEW:
            return f"{lowest} has the lowest value; fewer than {FEW} samples cannot tell whether that means anything."
        near = [p for p, _, pair in others if pair is None or not pair.clear]
        if near:
            shown = ", ".join(near[:4]) + (f" and {len(near) - 4} more" if len(near) > 4 else "")
            return (f"{lowest} has the lowest value; it is not apart (|z| > 2) from {len(near)} of the {len(others)} "
                    f"others: {shown}.")
        least = min(abs(pair.difference.z) for _, _, pair in others)
        return f"{lowest} has the lowest value, with |z| of {least:.1f} or more to each of the {len(others)} others."
