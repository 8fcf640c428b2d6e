# SPDX-License-Identifier: MIT
"""Which pairs of policies answer a question: a policy with a part, and the same without it."""
from typing import NamedTuple

AHAKV = {"gain": ("step", "plain"), "accumulation": ("recent", "all"), "prior": ("on", "off")}
PARTS = {"accumulation": "recent rows instead of all", "gain": "step gain instead of plain softmax",
         "prior": "value prior instead of none"}
POOLED = {"snapkv": "max", "pyramidkv": "max"}  # the default
OWN, PUBLISHED = "decayed_keydiff", ["h2o", "snapkv", "ahakv", "keydiff"]


class Comparison(NamedTuple):
    question: str
    label: str
    first: str  # with the part
    second: str  # without it


def parse(spec):
    """(ada, name, options) of a spec."""
    name, _, rest = spec.partition(":")
    options = dict(item.split("=", 1) for item in rest.split(",")) if rest else {}
    return name.startswith("ada_"), name.removeprefix("ada_"), options


def unparse(name, options):
    return name + (":" if options else "") + ",".join(f"{k}={v}" for k, v in options.items())


def key(spec):
    """Equal for specs that mean the same but for spelling: order of options, defaults of AhaKV's parts and pools."""
    ada, name, options = parse(spec)
    defaults = {k: v[0] for k, v in AHAKV.items()} if name == "ahakv" else {}
    if name in POOLED:
        defaults["pool"] = POOLED[name]
    if ada:
        defaults["safeguard"] = "mixture"
    return ada, name, frozenset((defaults | options).items())


def comparisons(policies):
    """Every Comparison whose two policies are there."""
    by_key = {key(spec): spec for spec in reversed(policies)}  # the first spelling counts
    found = []

    def add(question, label, first, second):
        a, b = by_key.get(key(first)), by_key.get(key(second))
        if a is not None and b is not None:
            found.append(Comparison(question, label, a, b))

    for part, (with_it, without) in AHAKV.items():
        for spec in policies:
            ada, name, options = parse(spec)
            if name == "ahakv" and options.get(part, with_it) == with_it and not options.keys() - AHAKV.keys():
                label = PARTS[part] + ("" if not (ada or options) else f" ({spec.removeprefix('ahakv:')})")
                add("AhaKV's parts", label, spec, unparse("ada_" * ada + name, options | {part: without}))
    for spec in policies:
        ada, name, options = parse(spec)
        if not ada:
            add("Ada-KV's budgets over a scorer", spec, "ada_" + spec, spec)
        elif "safeguard" not in options:
            add("Ada-KV's mixture instead of its minimum", spec, spec,
                unparse("ada_" + name, options | {"safeguard": "minimum"}))
    for spec in policies:
        ada, name, options = parse(spec)
        prefix = "ada_" * ada
        if name.startswith("pooled_"):
            add("Pooled instead of unpooled", spec, spec, unparse(prefix + name.removeprefix("pooled_"), options))
        elif name in POOLED and options.get("pool", POOLED[name]) != "none":
            plain = {k: v for k, v in options.items() if k not in ("pool", "pool_width")}
            add("Pooled instead of unpooled", spec, spec, unparse(prefix + name, plain | {"pool": "none"}))
    for spec in policies:
        if parse(spec)[1] == OWN:
            for other in PUBLISHED:
                add("This library's own policy against published ones", f"{spec} against {other}", spec, other)
    return list(dict.fromkeys(found))
