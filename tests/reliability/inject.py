#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Breaks one invariant at a time and sees to it that a test notices.

    inject.py ROOT [--only TEXT]   every bug of invariants.py (or those whose text contains TEXT), one after the other
    inject.py ROOT --missing       only bugs that the table has no line of: new ones, and those whose text changed
    inject.py ROOT --check         only whether every entry still fits the code: its text is there exactly once

All happens in ROOT/build/invariants, on a copy; the checkout is not touched, except for
tests/reliability/invariants.md, which gets a line of every bug that was caught and loses those of the others. A test
program catches a bug if it was built and then failed; one that does not build has caught nothing.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.dont_write_bytecode = True
from invariants import BUGS  # noqa: E402

COPIED = ("CMakeLists.txt", "CMakePresets.json", "cmake", "include", "tests", "bench", "README.md")
MOST_SECONDS = 300


def parts(test):
    """`program`, or `program:source`, where only the test cases of one source are run, or `program:source:case`, where
    only those that match are."""
    program, source, case = (test.split(":") + ["", ""])[:3]
    return program, source, case


def stale(root):
    """What does not fit the code any more."""
    problems, seen = [], set()
    for bug in BUGS:
        path = root / bug.file
        count = path.read_text().count(bug.old) if path.exists() else 0
        if count != 1:
            problems.append(f"{bug.name}: its text is {count} times in {bug.file}:\n{bug.old}")
        if bug.old == bug.new:
            problems.append(f"{bug.name}: the bug changes nothing")
        if (bug.file, bug.old, bug.new) in seen:
            problems.append(f"{bug.name}: the same bug twice")
        seen.add((bug.file, bug.old, bug.new))
        lists = [root / "tests/CMakeLists.txt", root / "tests/cuda/CMakeLists.txt"]
        programs = re.findall(r"kvevict_test\((\w+)", "".join(path.read_text() for path in lists))
        problems += [f"{bug.name}: there is no test program {t}" for t in bug.caught_by if parts(t)[0] not in programs]
    return problems


class Tree:
    """A copy of the sources, with a build folder of its own that is kept between bugs and between runs."""

    def __init__(self, root):
        home = root / "build" / "invariants"
        self.tree, self.build = home / "tree", home / "build"
        wanted = set()
        for top in COPIED:
            for path in [root / top] if (root / top).is_file() else (root / top).rglob("*"):
                if path.is_file() and "__pycache__" not in path.parts:
                    wanted.add(path.relative_to(root))
        for name in wanted:
            self.write(name, (root / name).read_bytes())
        for path in list(self.tree.rglob("*")):
            if path.is_file() and path.relative_to(self.tree) not in wanted:
                path.unlink()
        compiler = os.environ.get("CXX") or shutil.which("clang++") or "c++"
        self.run(["cmake", "-S", self.tree, "-B", self.build, "-G", "Ninja", "-Wno-dev", "-DCMAKE_BUILD_TYPE=Debug",
                  "-DCMAKE_CXX_FLAGS_DEBUG=-O0", f"-DCMAKE_CXX_COMPILER={compiler}", "-DKVEVICT_BUILD_EXAMPLES=OFF",
                  "-DKVEVICT_INSTALL=OFF"], "configuring")

    def has_nvcc(self):
        return re.search(r"^CMAKE_CUDA_COMPILER:\w+=/", (self.build / "CMakeCache.txt").read_text(), re.MULTILINE)

    def write(self, name, data):
        """Only where the bytes differ, so that nothing is built twice."""
        to = self.tree / name
        if to.exists() and to.read_bytes() == data:
            return
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_bytes(data)

    @staticmethod
    def run(command, what):
        done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            sys.exit(f"{what} failed:\n{done.stdout}")

    def builds(self, test):
        """The program; or, where one source is named, a program of this source alone, which takes a tenth of the time."""
        program, source, _ = parts(test)
        target = f"test_{program}"
        commands = [["cmake", "--build", ".", "--target", target]]
        if source:
            asked = subprocess.run(["ninja", "-t", "commands", f"tests/{target}"], cwd=self.build, stdout=subprocess.PIPE,
                                   text=True, check=True)
            link = asked.stdout.splitlines()[-1]
            objects = re.findall(rf"tests/CMakeFiles/{target}\.dir/\S+\.o", link)
            wanted = [one for one in objects if one.endswith(f"/{source}.cpp.o")]
            for one in set(objects) - set(wanted):
                link = link.replace(f" {one} ", " ")
            link = link.replace(f"-o tests/{target} ", f"-o {self.program(test)} ")
            commands = [["cmake", "--build", ".", "--target", "doctest_main", *wanted], ["sh", "-c", link]]
        for command in commands:
            done = subprocess.run(command, cwd=self.build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                return False, done.stdout
        return True, ""

    def program(self, test):
        program, source, _ = parts(test)
        return self.build / "tests" / f"test_{program}{'_of_' + source.replace('/', '_') if source else ''}"

    def test(self, test):
        """None if the program passed, otherwise the first test case that failed."""
        program, source, case = parts(test)
        only = ([f"--source-file=*/{source}.cpp"] if source else []) + ([f"--test-case={case}"] if case else [])
        try:
            done = subprocess.run([str(self.program(test)), "--abort-after=1", *only],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=MOST_SECONDS,
                                  env=os.environ | {"KVEVICT_RUNS": "3"})
        except subprocess.TimeoutExpired:
            return "(did not end)"
        if done.returncode == 0:
            return None
        failed = re.search(r"^TEST CASE:\s*(.+)$", done.stdout.decode(errors="replace"), re.MULTILINE)
        return failed[1].strip() if failed else f"(ended with {done.returncode})"


def inject(tree, bug):
    """What caught the bug, as (program, test case) pairs, and what is wrong otherwise."""
    original = (tree.tree / bug.file).read_text()
    tree.write(bug.file, original.replace(bug.old, bug.new).encode())
    caught, problem = [], None
    try:
        for program in bug.caught_by:
            built, output = tree.builds(program)
            if not built:
                problem = f"{program} does not build:\n{output}"
                break
            case = tree.test(program)
            if case is None:
                problem = f"{program} does not notice"
                break
            caught.append((program, case))
    finally:
        tree.write(bug.file, original.encode())
    return caught, problem


def cell(text):
    return one_line(text).replace("<", "&lt;")


def one_line(text):
    return " ".join(text.split()).replace("|", "\\|")


def code(text):
    text = one_line(text)
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def start_of_line(bug):
    """The line of a bug in the table, without what caught it."""
    file = bug.file.removeprefix("include/kvevict/")
    what = f"{cell(bug.mistake)}<br>{file}: {code(bug.old)} becomes {code(bug.new) if bug.new.strip() else 'nothing'}"
    return f"| {cell(bug.name)} | {what} | "


def table(rows, before):
    """Of `rows` those that ran now; of the others what the table `before` says, as long as the bug is the same."""
    caught_by = {}
    for bug in BUGS:
        start = start_of_line(bug)
        caught_by |= {start: line.removeprefix(start) for line in before.splitlines() if line.startswith(start)}
    for bug, caught in rows:
        caught_by[start_of_line(bug)] = "<br>".join(f"{parts(t)[0]}: {cell(case)}" for t, case in caught) + " |"
    lines = [start + caught_by[start] for start in map(start_of_line, BUGS) if start in caught_by]
    head = ["# Invariants, and the bugs that break them", "",
            "Written by `./dev invariants`, which injects each bug into a copy of the library, builds the test program",
            "that must notice, and runs it: it has to compile and to fail. The list is",
            "[invariants.py](invariants.py).", "",
            f"{len(lines)} bugs, all caught.", "",
            "| invariant | injected bug | caught by |", "|---|---|---|"]
    return "\n".join(head + lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description="Breaks one invariant at a time; a test must notice.")
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("--check", action="store_true", help="only whether the list still fits the code")
    parser.add_argument("--only", metavar="TEXT", help="only the bugs whose invariant, mistake or file contains TEXT")
    parser.add_argument("--missing", action="store_true", help="only the bugs that invariants.md has no line of")
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    problems = stale(root)
    if problems:
        print("tests/reliability/invariants.py is stale:\n" + "\n".join(problems))
        return 1
    if arguments.check:
        print(f"{len(BUGS)} bugs, each fits the code once")
        return 0
    results = root / "tests/reliability/invariants.md"
    before = results.read_text() if results.exists() else ""
    wanted = [b for b in BUGS if not arguments.only or any(arguments.only in t for t in (b.name, b.mistake, b.file))]
    if not wanted:
        sys.exit(f"no bug contains {arguments.only!r}")
    if arguments.missing:
        wanted = [b for b in wanted if f"\n{start_of_line(b)}" not in before]
        if not wanted:
            print("the table has a line of every bug")
            return 0

    tree = Tree(root)
    if not tree.has_nvcc():
        left_out = [b for b in wanted if "launches" in b.caught_by]
        wanted = [b for b in wanted if b not in left_out]
        print(f"no CUDA compiler: {len(left_out)} bugs of launches are left out", flush=True)
    print("the tests pass without any bug:", flush=True)
    for program in sorted({t for b in wanted for t in b.caught_by}):
        built, output = tree.builds(program)
        if not built:
            sys.exit(output)
        if case := tree.test(program):
            sys.exit(f"{program} fails without any bug: {case}")
        print(f"  {program}", flush=True)
    rows, missed, start = [], [], time.monotonic()
    for number, bug in enumerate(wanted, 1):
        caught, problem = inject(tree, bug)
        seconds = int(time.monotonic() - start)
        print(f"[{number}/{len(wanted)} {seconds:4d} s] {bug.name}: {bug.mistake}", flush=True)
        for program, case in caught:
            print(f"    caught by {program}: {case}", flush=True)
        if problem:
            print(f"    NOT CAUGHT: {problem}", flush=True)
            missed.append(bug)
        else:
            rows.append((bug, caught))
    of_missed = tuple(start_of_line(bug) for bug in missed)
    kept = [line for line in before.splitlines() if not line.startswith(of_missed)]
    results.write_text(table(rows, "\n".join(kept)))
    if missed:
        print(f"{len(missed)} of {len(wanted)} bugs are not caught:")
        print("\n".join(f"  {b.name}: {b.mistake}" for b in missed))
        return 1
    print(f"all {len(wanted)} bugs are caught")
    return 0


if __name__ == "__main__":
    sys.exit(main())
