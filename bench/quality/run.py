#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What policies cost a real model in quality: prose, copying and needles, beside the full cache.

    ./dev quality [--documents DIR] [--set report|training] [--measure prose,copy,needle] [--only TEXT]
                  [--policy SPEC]... [--budget P%]... [--decode N] [--json FILE] [--out DIR] [--fresh]

Without options: every policy of policies.txt at 10, 25 and 50 % on the twelve documents of documents/report. That takes
a while; after an interrupt the same command goes on where it was. What was measured stays in build/quality, under the
checksum of samples, model and program. At the end: tables, and a page with pictures in --out.
"""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
import time

import paired
import tables

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODEL = "SmolLM2-135M-Instruct, weights of a 4-bit file (Q4_1) in fp32"
BUDGETS = ["10%", "25%", "50%"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     prog="./dev quality")
    parser.add_argument("--documents", type=pathlib.Path, help="your own texts (.txt) or lists of token ids (.json)")
    parser.add_argument("--set", choices=["report", "training"], default="report", help="which of the bundled texts")
    parser.add_argument("--measure", default="prose,copy,needle", help="some of prose,copy,needle")
    parser.add_argument("--only", default="", metavar="TEXT", help="only samples that have this in their name")
    parser.add_argument("--policy", action="append", help="a spec, several times; default: those of policies.txt")
    parser.add_argument("--budget", action="append",
                        help=f"several times; default: {' '.join(BUDGETS).replace('%', '%%')}")
    parser.add_argument("--decode", type=int, metavar="N",
                        help="token by token, and evict again when heads hold N slots above their budgets")
    parser.add_argument("--json", type=pathlib.Path, help="everything measured, and where and how")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "quality", help="folder of the page")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "build" / "model", help=argparse.SUPPRESS)
    parser.add_argument("--engine", type=pathlib.Path, help=argparse.SUPPRESS,
                        default=ROOT / "build" / "demo" / "bench" / "quality" / "measure_quality")
    args = parser.parse_args()
    args.budget = args.budget or BUDGETS
    return args


def checksum(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def machine():
    info = pathlib.Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.*)", info.read_text()) if info.exists() else None
    return f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, {platform.system()}"


def make_samples(args, work):
    """The samples' file; which samples it has does not depend on --measure, what is run does."""
    python = args.model / "venv" / "bin" / "python"
    file = work / "samples.jsonl"
    command = [python if python.exists() else sys.executable, HERE / "samples.py", "--model", args.model, "--documents",
               args.documents or HERE / "documents" / args.set, "--out", file]
    if subprocess.run(command).returncode:
        sys.exit(1)
    return file


def clock(seconds):
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def measure(command, samples, runs):
    """Runs the program and shows how far it is. A sample's work: its context once, what follows once per run."""
    work = {s["sample"]: len(s["context"]) + runs * len(s["follow"]) for s in samples}
    left, done, spent, start = sum(work.values()), 0, 0.0, time.monotonic()
    ends = "\r" if sys.stderr.isatty() else "\n"
    print(f"{len(samples)} samples, {runs} runs each; the first says how long it takes", file=sys.stderr)
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as program:
        try:
            for i, line in enumerate(map(json.loads, program.stdout), 1):
                left -= work[line["sample"]]
                if line["runs"]:
                    done, spent = done + work[line["sample"]], spent + line["seconds"]
                about = f"about {clock(left * spent / done)} left" if done else "measured before"
                print(f"  {i} of {len(samples)}, {line['sample']}: {clock(time.monotonic() - start)} passed, {about}"
                      .ljust(100 if ends == "\r" else 0), end=ends, file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            program.terminate()
            sys.exit("\nquality: interrupted; the same command goes on where it was")
    print(file=sys.stderr)
    if program.returncode:
        sys.exit(program.returncode)


def read_results(path, samples, policies, budgets):
    """Lines that belong to this call; the file may have more."""
    names = {s["sample"] for s in samples}
    for line in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        asked = line["policy"] in policies and line["budget"] in budgets
        if line["sample"] in names and (asked or (line["policy"], line["budget"]) == paired.FULL):
            yield line


def policy_specs(args):
    lines = args.policy or (HERE / "policies.txt").read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip() and not line.startswith("#")))


def draw(json_file, page):
    """The page needs matplotlib, which Debian installs for its own Python."""
    for python in ("/usr/bin/python3", sys.executable):
        if subprocess.run([python, "-c", "import matplotlib"], stderr=subprocess.DEVNULL).returncode == 0:
            code = subprocess.run([python, HERE / "page.py", json_file, page]).returncode
            print(page if code == 0 else f"quality: {page} could not be made")
            return code
    print("quality: the page needs python3 with matplotlib (Debian: apt-get install python3-matplotlib)",
          file=sys.stderr)
    return 1


def main():
    args = arguments()
    if not (args.model / "done").exists():
        sys.exit("quality: there is no model yet; ./dev model fetches it (93 MB)")
    if not args.engine.exists():
        sys.exit(f"quality: {args.engine} is missing; ./dev quality builds it")
    wanted = args.measure.split(",")
    if wrong := [m for m in wanted if m not in ("prose", "copy", "needle")]:
        sys.exit(f"quality: there is no measure '{wrong[0]}'; please name some of prose,copy,needle")
    work = ROOT / "build" / "quality"
    work.mkdir(parents=True, exist_ok=True)
    samples_file = make_samples(args, work)
    model_sum, specs = checksum(args.model / "model.safetensors"), policy_specs(args)
    settings = [checksum(samples_file), model_sum, checksum(args.engine), f"decode {args.decode}"]
    name = hashlib.sha256(" ".join(settings).encode()).hexdigest()[:16]
    results = work / f"results-{name}.jsonl"
    if args.fresh:
        results.unlink(missing_ok=True)

    samples = [s for s in map(json.loads, samples_file.read_text(encoding="utf-8").splitlines())
               if s["measure"].split("-")[0] in wanted and args.only in s["sample"]]
    if not samples:
        sys.exit(f"quality: none of the samples is of {args.measure} with '{args.only}' in its name")
    run_file, policy_file = work / f"samples-{name}.jsonl", work / f"policies-{name}.txt"
    run_file.write_text("".join(json.dumps(s) + "\n" for s in samples), encoding="utf-8")
    policy_file.write_text("".join(s + "\n" for s in specs), encoding="utf-8")
    command = [args.engine, "--model", args.model, "--samples", run_file, "--policies", policy_file, "--out", results]
    for budget in args.budget:
        command += ["--budget", budget]
    command += [] if args.decode is None else ["--decode", args.decode]
    measure(command, samples, len(specs) * len(args.budget) + 1)

    lines = list(read_results(results, samples, specs, args.budget))
    shown = [{k: s[k] for k in ("sample", "measure", "scored")} | {"context": len(s["context"])} for s in samples]
    everything = {
        "machine": machine(), "date": datetime.date.today().isoformat(), "model": MODEL, "model_sha256": model_sum,
        "decode": args.decode, "command": "./dev quality " + shlex.join(sys.argv[1:]),
        "documents": str(args.documents or f"bench/quality/documents/{args.set}"), "samples": shown, "results": lines}
    print(tables.text(paired.Results(lines)))
    args.out.mkdir(parents=True, exist_ok=True)
    json_file = args.json or args.out / "quality.json"
    json_file.write_text(json.dumps(everything).replace('{"sample', '\n{"sample') + "\n", encoding="utf-8")
    page = args.out / "quality.html"
    print(json_file)
    return draw(json_file, page)


if __name__ == "__main__":
    sys.exit(main())
