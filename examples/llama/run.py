#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Continues a text with a real model: with the full cache, and with each policy that evicts from it.

    ./dev run --prompt TEXT|FILE [--policy SPEC]... [--budget N|P%] [--count 64] [--chat] [--temperature T] [--seed N]
              [--chunk N] [--evict-chunks] [--every W] [--json FILE]

The model is the one that ./dev model fetches, tokens come from the package tokenizers, everything else is the engine of
this folder and the library. Held and peak memory are what the system says the cache occupies, page by page.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import textwrap

import pypi

ROOT = pathlib.Path(__file__).resolve().parents[2]
POLICIES = ["streaming_llm", "h2o", "snapkv", "ada_snapkv", "ahakv"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     prog="./dev run")
    parser.add_argument("--prompt", required=True, help="a text, or the name of a file that holds one")
    parser.add_argument("--policy", action="append", help=f"a spec, several times; default: {' '.join(POLICIES)}")
    parser.add_argument("--budget", default="25%", help="slots per head, or a share of the prompt")
    parser.add_argument("--count", type=int, default=64, help="tokens of each continuation, at most")
    parser.add_argument("--chat", action="store_true", help="the prompt is a question to the assistant")
    parser.add_argument("--temperature", type=float, default=0, help="0: always the most probable token")
    parser.add_argument("--seed", type=int, default=1, help="of the draws where the temperature is not 0")
    parser.add_argument("--chunk", type=int, default=512, help="tokens of the prompt that run at once")
    parser.add_argument("--evict-chunks", action="store_true", help="evict after every chunk, not only at the end")
    parser.add_argument("--every", type=int, help="while decoding, evict when rows hold so many slots above the budget")
    parser.add_argument("--json", type=pathlib.Path, help="everything measured")
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / "build" / "model", help=argparse.SUPPRESS)
    parser.add_argument("--engine", type=pathlib.Path, help=argparse.SUPPRESS,
                        default=ROOT / "build" / "demo" / "examples" / "llama" / "continue_prompt")
    args = parser.parse_args()
    args.policy = args.policy or POLICIES
    return args


def prompt_text(given):
    path = pathlib.Path(given)
    try:
        is_file = path.is_file()
    except OSError:  # too long for a name
        is_file = False
    try:
        text = path.read_text(encoding="utf-8") if is_file else given
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"run: {path} cannot be read as a text: {error}")
    if not text.strip():
        sys.exit("run: the prompt is empty")
    return text


def chat(text):
    return ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n")


class Stream:
    """Text of tokens as they come; a character whose bytes are not all there yet waits."""

    def __init__(self, tokenizer):
        self.tokenizer, self.tokens, self.shown = tokenizer, [], 0

    def add(self, token):
        self.tokens.append(token)
        text = self.tokenizer.decode(self.tokens)
        if text.endswith("\ufffd"):
            return ""
        new, self.shown = text[self.shown:], len(text)
        return new


def continuations(command, tokenizer):
    """Runs the engine; returns its final line of every run, with the text, and whether some did not run."""
    done, stream, name = [], None, None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as engine:
        for line in map(json.loads, engine.stdout):
            if name != line["run"]:
                name, stream = line["run"], Stream(tokenizer)
                print(f"\n\n--- {name}\n", end="", flush=True)
            if "token" in line:
                print(stream.add(line["token"]), end="", flush=True)
            elif "error" in line:
                print(f"not run: {line['error']}", end="", flush=True)
            else:
                done.append(line | {"text": tokenizer.decode(line["tokens"])})
    if engine.returncode not in (0, 1) or not done:
        sys.exit(engine.returncode)
    return done, engine.returncode


def side_by_side(runs):
    """The continuations beside one another, and where each leaves the full cache's."""
    width = max(24, min(56, (shutil.get_terminal_size((160, 24)).columns - 3 * (len(runs) - 1)) // len(runs)))
    columns = []
    for run in runs:
        same = 0
        for a, b in zip(run["tokens"], runs[0]["tokens"]):
            if a != b:
                break
            same += 1
        note = "" if run is runs[0] else ("the same tokens" if run["tokens"] == runs[0]["tokens"]
                                          else f"the same {same} tokens first")
        body = [part for line in run["text"].split("\n") for part in textwrap.wrap(line, width) or [""]]
        columns.append([run["run"], note, "-" * width, *body])
    per_line = max(1, (shutil.get_terminal_size((160, 24)).columns + 3) // (width + 3))
    for first in range(0, len(columns), per_line):
        group = columns[first:first + per_line]
        for i in range(max(map(len, group))):
            print("   ".join((c[i] if i < len(c) else "").ljust(width) for c in group).rstrip())
        print()


def table(runs):
    heads = ["", "cache held", "peak", "policy's state", "prompt, tokens/s", "decode, tokens/s", "eviction, ms"]
    rows = []
    for r in runs:
        steps = len(r["tokens"]) - 1
        rows.append([r["run"], f"{r['held_cache_bytes'] / 2**20:.1f} MiB", f"{r['peak_cache_bytes'] / 2**20:.1f} MiB",
                     f"{r['state_bytes'] / 2**20:.1f} MiB", f"{r['prompt_tokens'] / r['prefill_seconds']:.0f}",
                     f"{steps / r['decode_seconds']:.1f}" if steps else "-", f"{1000 * r['evict_seconds']:.1f}"])
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    for row in [heads, *rows]:
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))))


def main():
    args = arguments()
    python = args.model / "venv" / "bin" / "python"
    if not (args.model / "done").exists():
        sys.exit("run: there is no model yet; ./dev model fetches it (93 MB)")
    if python.exists():
        pypi.enter(python)
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    text = prompt_text(args.prompt)
    ids = tokenizer.encode(chat(text) if args.chat else text).ids
    end = json.loads((args.model / "config.json").read_text(encoding="utf-8"))["eos_token_id"]
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(ids, file)
        file.flush()
        command = [args.engine, "--model", args.model, "--tokens", file.name, "--budget", args.budget,
                   "--count", str(args.count), "--end", str(end), "--temperature", str(args.temperature),
                   "--seed", str(args.seed), "--chunk", str(args.chunk)]
        command += ["--evict-chunks"] if args.evict_chunks else []
        command += ["--every", str(args.every)] if args.every is not None else []
        for spec in args.policy:
            command += ["--policy", spec]
        print(f"{len(ids)} tokens of prompt, budget {args.budget} per head", end="")
        runs, failed = continuations(list(map(str, command)), tokenizer)
    print("\n\n")
    side_by_side(runs)
    table(runs)
    if args.json:
        args.json.write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")
    return failed


if __name__ == "__main__":
    sys.exit(main())
