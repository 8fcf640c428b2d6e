#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""test_output.py PROGRAM FILE: the program succeeds and prints what the file holds, character by character."""
import difflib
import pathlib
import subprocess
import sys

program, file = sys.argv[1], pathlib.Path(sys.argv[2])
run = subprocess.run([program], capture_output=True, text=True)
expected = file.read_text(encoding="utf-8") if file.exists() else ""
if run.returncode == 0 and run.stdout == expected:
    sys.exit(0)
sys.stdout.writelines(difflib.unified_diff(expected.splitlines(True), run.stdout.splitlines(True), str(file), program))
print(run.stderr, end="")
sys.exit(f"{program} ended with {run.returncode}; if what it prints now is right, write it to {file}")
