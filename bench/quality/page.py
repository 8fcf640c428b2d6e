#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Results of ./dev quality as one page, pictures inside: page.py quality.json quality.html"""
import base64
import collections
import html
import json
import pathlib
import sys

import comparisons
import paired
import pictures
import tables

LIMITS = """
<p>One model of 135 million parameters, one draw of needles, a few texts: these are differences on this model and these
texts, not a ranking of policies.</p>
<ul>
<li>Small models attend differently. The logits of one row of this one have a standard deviation of 2.5 on average
(3.8 all rows and heads of a layer together; tests/llama/model.cpp), where AhaKV's step gain assumes 1, so the gain
sharpens attention that is sharp already. The order that AhaKV's paper reports on larger
models (AhaKV, SnapKV, H2O, StreamingLLM) was not reproduced when PyTorch measured this one. That neither refutes nor
supports what the paper says of larger ones.</li>
<li>A few positions rule the mean KLD, and they favour policies that keep what is recent. The geometric mean weighs all
positions alike and separates more pairs. Both are given.</li>
<li>No single number is honest: what does well at prose can fail at finding a needle, and the other way round. A
needle whose question the policy knew is another task than one that is asked when the cache is already cut.</li>
<li>Exact match has a floor: below some budget most policies are at 0 %, and equal only in that. The answer's negative
log-likelihood still tells them apart, so pairs are compared by it.</li>
<li>Long contexts, reasoning, instructions and code are beyond this model, so nothing is said about them.</li>
<li>Samples of one document are not independent. Among many pairs some have |z| above 2 by chance: of 36 pairs of equal
policies on 12 documents, two or three.</li>
</ul>"""
STYLE = """body{font:15px/1.5 sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:#222}img{max-width:100%}
table{border-collapse:collapse;font-size:13px}td,th{padding:.15em .7em;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}summary{cursor:pointer;margin:.4em 0}.scroll{overflow-x:auto}
code{background:#f3f3f3;padding:0 .2em}"""
CURVES = {
    "prose": [("kld", "mean KLD, nats", True), ("geometric_kld", "geometric mean KLD", True)],
    "copy": [("nll", "NLL of the copy", False), ("accuracy", "share of right tokens", False)]}
NEEDLE = [("nll", "NLL of the answer", False), ("exact", "share of right answers", False)]
INTRO = {
    "prose": "2048 tokens of a document, evicted once, then 128 tokens of the same text, each judged against what the "
             "full cache predicts (KLD). Perplexity is that of the text.",
    "copy": "A text of about 640 tokens, evicted, and the start of a passage of it, which the model is to go on "
            "copying; over the samples the passages lie evenly in their texts.",
    "needle":
        "Sentences with secret numbers in a text of about 640 tokens. Asked before: the question is a part of "
        "what is evicted from, so the newest queries know it. Asked after: nothing knew it."}
QUESTIONS = {
    "AhaKV's parts": "Each part against AhaKV without it, all else equal.",
    "Ada-KV's budgets over a scorer": "The same scores, budgets of heads by Ada-KV (mixture) against equal ones.",
    "Ada-KV's mixture instead of its minimum":
        "Its two safeguards: the mixture of Ada-KV's and equal budgets against a minimum for each head.",
    "Pooled instead of unpooled": "The score of a slot smoothed over its neighbours against its own.",
    "This library's own policy against published ones":
        "A composition that a search on other texts found; its header says what it is."}


def table(rows):
    head, *body = ["".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in row)
                   for tag, row in zip(["th"] + ["td"] * len(rows), rows)]
    return f'<div class="scroll"><table><tr>{head}</tr>' + "".join(f"<tr>{r}</tr>" for r in body) + "</table></div>"


def image(png, title):
    data = base64.b64encode(png).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'


def folded(summary, content, is_open=False):
    return f"<details{' open' * is_open}><summary>{html.escape(summary)}</summary>{content}</details>"


def measurements(results):
    """Curves and tables of each measure; the table of the middle budget of prose stands open."""
    groups = collections.defaultdict(list)
    for measure in results.measures():
        groups[measure.split("-")[0]].append(measure)
    for group, measures in groups.items():
        yield f"<h2>{html.escape({'copy': 'Copying', 'needle': 'Needles'}.get(group, group.capitalize()))}</h2>"
        yield f"<p>{INTRO.get(group, '')}</p>"
        for measure in measures:
            if len(measures) > 1:
                yield f"<h3>{html.escape(tables.name(measure))}</h3>"
            yield f"<p>{html.escape(tables.full_line(results, measure))}</p>"
            if not results.policies(measure):
                continue
            yield image(pictures.curves(results, measure, CURVES.get(measure, NEEDLE)), tables.name(measure))
            for budget in results.budgets(measure):
                rows = [tables.heads(measure), *tables.rows(results, measure, budget)]
                yield folded(f"{budget} kept: {results.verdict(measure, budget)}", table(rows),
                             measure == "prose" and budget == "25%")


def effect(pair, measure):
    """A ratio of KLDs, or a difference of NLLs, with its z."""
    if pair is None:
        return ""
    shown = tables.ratio(pair.difference.mean) if measure == "prose" else format(pair.difference.mean, "+.2f")
    return shown + (f" (z {tables.z(pair)})" if tables.z(pair) else "")


def questions(results):
    """Parts of policies, with and without."""
    groups = collections.defaultdict(list)
    for comparison in comparisons.comparisons(results.policies()):
        groups[comparison.question].append(comparison)
    for question, pairs in groups.items():
        picture = pictures.differences(results, pairs)
        if picture is None:
            continue
        yield f"<h2>{html.escape(question)}</h2><p>{QUESTIONS[question]} Bars are two standard errors each way.</p>"
        yield image(picture, question)
        for measure in results.measures():
            budgets = results.budgets(measure)
            rows = [[c.label, *(effect(results.pair(measure, (c.first, b), (c.second, b), paired.compared(measure)),
                                       measure) for b in budgets)] for c in pairs]
            what = "ratio of geometric mean KLDs" if measure == "prose" else "difference of NLLs"
            yield folded(f"{tables.name(measure)}: {what}", table([["", *(f"{b} kept" for b in budgets)], *rows]))


def page(data):
    results = paired.Results(data["results"])
    counts = collections.Counter(s["measure"] for s in data["samples"])
    said = ", ".join(f"{n} of {m}" for m, n in counts.items())
    along = f", evicted again at {data['decode']} slots above the budget" if data.get("decode") is not None else ""
    problems = sorted({f"{p} at {b}, {tables.name(m)}: {why}" for (m, p, b), why in results.problems.items()})
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>What eviction costs in quality</title>"
        f"<style>{STYLE}</style><h1>What eviction policies cost a real model in quality</h1>",
        f"<p>{html.escape(data['date'])}, {html.escape(data['machine'])}. Model: {html.escape(data['model'])}, sha256 "
        f"<code>{html.escape(data['model_sha256'][:16])}</code>. Documents: {html.escape(data['documents'])}. Samples: "
        f"{html.escape(said)}. Made by <code>{html.escape(data['command'])}</code>.</p>",
        "<p>Each sample is read once with the full cache; then every policy evicts from that cache, and the same "
        f"tokens follow under each{along}. So policies are compared on the same samples, and a difference has its "
        "standard error over samples: z is the difference in such errors. Prose is compared by the logarithm of "
        "the KLD, all else by the negative log-likelihood (NLL) of what was to be said. ± is one standard error. "
        "No policy is called best that is not at least two errors from each other one.</p>",
        "<h2>What this model cannot tell</h2>", LIMITS, *measurements(results), *questions(results)]
    if problems:
        parts.append("<h2>Not run</h2><ul>" + "".join(f"<li>{html.escape(p)}</li>" for p in problems) + "</ul>")
    return "\n".join(parts) + "\n</html>\n"


def main():
    data = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    if not data["results"]:
        sys.exit("quality: there are no results to show")
    pathlib.Path(sys.argv[2]).write_text(page(data), encoding="utf-8")


if __name__ == "__main__":
    main()
