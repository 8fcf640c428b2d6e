#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rules of the layout that no compiler checks.

    rules.py ROOT

Includes point one way: core <- view <- score, budget, select, compact <- policy <- decode <- cpu, cuda; only one file
names Eigen and only one folder CUDA; no header is long, and no glue of an example; nothing in the headers allocates,
prints or keeps state; every macro says whose it is.
"""
import pathlib
import re
import sys

BELOW = {
    "core": {"core"},
    "view": {"core", "view"},
    "score": {"core", "view", "score"},
    "budget": {"core", "budget"},
    "select": {"core", "view", "select"},
    "compact": {"core", "view", "select", "compact"},
    "decode": {"core", "view", "score", "policy", "decode"},
    "policy": {"core", "view", "score", "budget", "select", "policy"},
    "cpu": {"core", "view", "score", "budget", "select", "compact", "decode", "policy", "cpu"},
    "cuda": {"core", "view", "score", "budget", "select", "compact", "decode", "policy", "cuda"},
}
MOST_LINES = 300
MOST_GLUE = {"*host/*.c*": 40, "llama_cpp/glue.hpp": 60}  # of an example that hosts the library
FORBIDDEN = {
    r"\bnew\b\s+\w|\bmalloc\b|\bstd::vector\b|\bstd::function\b|\bthrow\b": "headers neither allocate nor throw",
    r"\bstd::(cout|cerr|printf)\b|\bprintf\b": "headers do not print",
    r"\bthread_local\b|^\s*static\s+(?!constexpr|_assert|[^=;]*\()\w": "headers keep no state",
    r"\bTODO\b|\bFIXME\b|\bXXX\b": "unfinished work is an issue, not a comment",
}
ALLOCATES = {"policy/spec.hpp"}  # runs once, at start-up; its header says so


def main(root):
    headers = root / "include" / "kvevict"
    problems = []
    for path in sorted([*headers.rglob("*.hpp"), *headers.rglob("*.cuh")]):
        name = path.relative_to(headers).as_posix()
        text = path.read_text()
        lines = text.splitlines()
        code = [re.sub(r'//.*|"[^"]*"', "", line) for line in lines]

        def report(number, reason):
            problems.append(f"include/kvevict/{name}:{number}: {reason}")

        if lines[0] != "// SPDX-License-Identifier: MIT":
            report(1, "the first line names the licence")
        if lines[1] != "#pragma once":
            report(2, "the second line is #pragma once")
        if len(lines) > MOST_LINES:
            report(len(lines), f"more than {MOST_LINES} lines: more than one idea")
        folder = name.split("/")[0]
        for number, line in enumerate(lines, 1):
            if len(line) > 120:
                report(number, "more than 120 columns")
            included = re.match(r"#include <kvevict/(\w+)/", line)
            if included and folder in BELOW and included[1] not in BELOW[folder]:
                report(number, f"{folder} must not include {included[1]}")
            if "Eigen" in code[number - 1] and name != "cpu/detail/eigen.hpp":
                report(number, "only cpu/detail/eigen.hpp names Eigen")
            if "cuda" in code[number - 1].lower().replace("__cudacc__", "") and path.suffix != ".cuh" and folder not in ("core", "cuda"):
                report(number, "views and policies name no CUDA")
            macro = re.match(r"\s*#\s*define\s+(\w+)", line)
            if macro and not macro[1].startswith("KVEVICT_"):
                report(number, "a macro starts with KVEVICT_")
            for pattern, reason in FORBIDDEN.items():
                if re.search(pattern, code[number - 1]) and not (name in ALLOCATES and "allocate" in reason):
                    report(number, reason)
    for pattern, most in MOST_GLUE.items():
        for path in sorted((root / "examples").glob(pattern)):
            glue = re.findall(r"// ---- the glue ----\n(.*?)// ---- end of glue ----", path.read_text(), re.S)
            if any(part.count("\n") > most for part in glue):
                problems.append(f"{path.relative_to(root)}: more than {most} lines of glue")
    for folder in ("examples", "bench", "tests"):
        for path in sorted((root / folder).rglob("*.[ch][pu]*")):
            if path.parent == root / "tests" / "cuda" or path.name.startswith("simulated_"):
                continue  # a kernel is run by name, in the place of its launch
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if re.search(r"\b(kvevict::)?detail::", re.sub(r"//.*", "", line)):
                    problems.append(f"{path.relative_to(root)}:{number}: detail:: is not for users")
    print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
