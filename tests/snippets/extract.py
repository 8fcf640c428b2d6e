#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the snippets of the documentation as programs that a test compiles.

    extract.py ROOT OUT

README.md's ```cpp block becomes OUT/readme.cpp, a program; every @code block of a header becomes a function of
OUT/headers.cpp, with the names of preamble.hpp around it.
"""
import pathlib
import re
import sys

root, out = map(pathlib.Path, sys.argv[1:])
out.mkdir(parents=True, exist_ok=True)
programs = re.findall(r"```cpp\n(.*?)```", (root / "README.md").read_text(), re.S)
assert len(programs) == 1, "README.md holds one program"
files = {"readme.cpp": programs[0]}
text, count = '#include "preamble.hpp"\n', 0
for header in sorted((root / "include").rglob("*.hpp")):
    for block in re.findall(r"/// @code\n(.*?)/// @endcode", header.read_text(), re.S):
        count += 1
        code = re.sub(r"^\s*///[ ]?", "", block, flags=re.M)
        text += f"\n// {header.relative_to(root)}\nvoid snippet_{count}() {{\n{code}}}\n"
assert count >= 9, f"{count} snippets"
files["headers.cpp"] = text + "\nint main() {}\n"
for name, content in files.items():
    if not (out / name).exists() or (out / name).read_text() != content:
        (out / name).write_text(content)
