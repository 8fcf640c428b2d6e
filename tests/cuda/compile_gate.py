#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What can be said of the CUDA code without a GPU: it compiles for every architecture, and well.

    compile_gate.py NVCC ROOT BUILD [--update]

Each .cuh compiles alone, included twice (kvevict/nccl.cuh where NCCL's header is found); the benchmark compiles, to
PTX. Every kernel of entry_points.cu compiles for every architecture without a warning, without spills or local memory,
and without ptxas's notes on serialised wgmma (C7508, C7510, C7514). Registers per thread are compared with registers.md
where the compiler is the one that wrote it; --update writes it.
"""
import argparse
import concurrent.futures
import pathlib
import re
import subprocess
import sys

ARCHITECTURES = ("80", "90a", "100a", "120")
FLAGS = ["-std=c++20", "-O3", "--Werror=all-warnings"]


def compiled(nvcc, root, architecture, source, target, *flags, phase="-cubin"):
    # By its long name, for -arch=sm_90a makes code for compute_90 as well.
    code = f"-gencode=arch=compute_{architecture},code={'compute' if phase == '-ptx' else 'sm'}_{architecture}"
    command = [nvcc, *FLAGS, phase, *flags, code, f"-I{root / 'include'}", str(source), "-o", str(target)]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


def short(kernel):
    """A kernel by the name of its body and the types that it is made for."""
    body = re.search(r"run_kernel<\(int\)\d+, (.*)>\(T2\)$|run_kernel<\d+, (.*)>\(", kernel)
    name = next((g for g in body.groups() if g), kernel) if body else kernel
    return re.sub(r"kvevict::(detail::|budget::|score::)*", "", name).replace(" >", ">").strip()


def kernels(text):
    """Name -> (registers, what is wrong) of every kernel that ptxas tells about."""
    demangled = subprocess.run(["c++filt"], input=text, capture_output=True, text=True).stdout
    found, name = {}, None
    for line in demangled.splitlines():
        if entry := re.search(r"Compiling entry function '(.*)' for 'sm_", line):
            name = short(entry[1])
            found[name] = [None, []]
        elif name and (spills := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill", line)):
            if any(int(n) for n in spills.groups()):
                found[name][1].append(line.strip())
        elif name and (used := re.search(r"Used (\d+) registers", line)):
            found[name][0] = int(used[1])
            name = None
    return found


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("nvcc")
    arguments.add_argument("root", type=pathlib.Path)
    arguments.add_argument("build", type=pathlib.Path)
    arguments.add_argument("--update", action="store_true")
    options = arguments.parse_args()
    options.build.mkdir(parents=True, exist_ok=True)
    here = options.root / "tests" / "cuda"
    problems, jobs = [], []
    probe = options.build / "has_nccl.cu"
    probe.write_text("#include <nccl.h>\n")
    has_nccl = subprocess.run([options.nvcc, "-E", str(probe)], capture_output=True).returncode == 0
    if not has_nccl:
        print("kvevict/nccl.cuh is not compiled: nccl.h was not found")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for architecture in ARCHITECTURES:  # the longest start first
            target = options.build / f"entry_points_{architecture}.cubin"
            jobs.append((f"sm_{architecture}", architecture,
                         pool.submit(compiled, options.nvcc, options.root, architecture, here / "entry_points.cu", target,
                                     "-Xptxas", "-v")))
        for header in sorted((options.root / "include").rglob("*.cuh")):
            name = header.relative_to(options.root / "include").as_posix()
            if name == "kvevict/nccl.cuh" and not has_nccl:
                continue
            source = options.build / (name.replace("/", "_") + ".cu")
            source.write_text(f"#include <{name}>\n#include <{name}>\nint main() {{}}\n")
            jobs.append((f"{name} alone", None, pool.submit(compiled, options.nvcc, options.root, "80", source,
                                                            source.with_suffix(".cubin"))))
        for source in sorted((options.root / "bench" / "gpu").glob("*.cu")):
            jobs.append((f"bench/gpu/{source.name}", None,
                         pool.submit(compiled, options.nvcc, options.root, "90a", source,
                                     options.build / f"bench_{source.stem}.ptx", "-Xcicc", "-O0", phase="-ptx")))
    table = {}
    for name, architecture, job in jobs:
        code, text = job.result()
        if code != 0:
            problems.append(f"{name}: does not compile without warnings\n{text}")
        for number in re.findall(r"C75(?:08|10|14)", text):
            problems.append(f"{name}: ptxas serialises wgmma ({number})")
        for kernel, (registers, wrong) in kernels(text).items() if architecture else ():
            problems += [f"{name}: {kernel}: {line}" for line in wrong]
            table.setdefault(kernel, {})[architecture] = registers
    if not table and not problems:
        problems.append("ptxas told of no kernel")

    version = re.search(r"release ([\d.]+)", subprocess.run([options.nvcc, "--version"], capture_output=True,
                                                            text=True).stdout)[1]
    lines = [f"Registers per thread, nvcc {version}; no kernel spills or uses local memory.", "",
             "| kernel | " + " | ".join(f"sm_{a}" for a in ARCHITECTURES) + " |", "|---|" + "---|" * len(ARCHITECTURES)]
    lines += [f"| `{kernel}` | " + " | ".join(str(table[kernel].get(a, "-")) for a in ARCHITECTURES) + " |"
              for kernel in sorted(table)]
    text, committed = "\n".join(lines) + "\n", here / "registers.md"
    if options.update and not problems:
        committed.write_text(text)
    elif problems:
        pass
    elif not committed.exists() or f"nvcc {version};" not in committed.read_text():
        print(f"registers.md was written by another compiler than nvcc {version}; it is not compared")
    elif committed.read_text() != text:
        problems.append("tests/cuda/registers.md does not fit; look at the difference, then run this with --update:\n" +
                        text)
    print("\n".join(problems) or f"{len(table)} kernels for {len(ARCHITECTURES)} architectures, nvcc {version}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
