#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Times kvpress 0.5.5 on torch and this library on the same tensors, in one process, by turns.

    ./dev peers [--json FILE] [--out FILE.md] [--rounds 9] [--keys 4096 32768] [--threads 1 2]

The first run makes a virtual environment in build/peers/venv and downloads gigabytes, most of them torch.

One layer of one sequence: 8 kv_heads, 32 query_heads, head_dim 128, a window of 64 queries, average pooling of 5, 1024
keys per kv_head kept. Before a row is timed, its kept sets, also those from a given log-sum-exp, are compared with each
other and with scores computed in double precision, and every kept key and value with its source; what is wrong ends the
run.

What the clock covers, on either side from the call to its return:

- kvpress: press.compress(module, hidden_states, keys, values, None, kwargs). The module hands the queries on as they
  are (an identity for q_proj, RoPE with cos 1 and sin 0); what is left of making queries is a pass over 64 rows, whose
  time is stated below the table. SnapKVPress scores, selects and gathers into new tensors. AdaKVPress scores, selects
  and returns the indices that attention must mask: it moves and frees nothing.
- kvevict: two torch.empty for the result, then score_rows, select and gather, for both policies. Scores and workspace
  are the caller's and allocated once, as an engine does for all its layers. "in place" is the third stage alone where
  compact_in_place takes gather's place.
- kvevict given the log-sum-exp, the second table: the same calls in the same rounds, score_rows with one input more,
  the log of the sum of exp(q . k / sqrt(head_dim)) over the keys that a row of the window sees, per query_head, in
  fp32, as attention kernels return it. An engine that has just run attention has it; here it is computed outside the
  clock, in double precision, from the same tensors. kvpress has no such input (it takes whole attention weights, which
  only eager attention has, or computes them, as here), so its time is the same in both tables.
"""
import argparse
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PINNED = ["kvpress==0.5.5", "transformers==5.2.0"]  # torch: the newest that pip finds for these
KEPT = 1024


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     prog="./dev peers")
    parser.add_argument("--json", type=pathlib.Path, help="everything measured, every round")
    parser.add_argument("--out", type=pathlib.Path, help="the table as Markdown; it is printed in any case")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds of each row, after one that is not")
    parser.add_argument("--keys", type=int, nargs="+", default=[4096, 32768])
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count()}))
    args = parser.parse_args()
    if args.rounds < 1 or min(args.threads) < 1:
        parser.error("--rounds and --threads must be at least 1")
    if min(args.keys) < 2 * KEPT or max(args.keys) > 65536:
        parser.error(f"--keys must be from {2 * KEPT} to 65536")
    return args


def environment():
    """The interpreter of a virtual environment with what is pinned."""
    folder = ROOT / "build" / "peers" / "venv"
    installed, wanted = folder / "installed", "\n".join(PINNED)
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        print(f"peers: installing {' '.join(PINNED)} into {folder} (gigabytes, minutes)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", *PINNED], check=True)
        installed.write_text(wanted, encoding="utf-8")
    return folder / "bin" / "python"


def main():
    arguments()  # before anything is downloaded
    try:
        for command in (["cmake", "--preset", "bench", "-Wno-dev"],
                        ["cmake", "--build", "--preset", "bench", "--target", "kvevict_peer"]):
            subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        python = environment()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.stdout or ''}peers: {error}")
    os.execv(python, [python, pathlib.Path(__file__).with_name("measure.py"), *sys.argv[1:]])


if __name__ == "__main__":
    main()
