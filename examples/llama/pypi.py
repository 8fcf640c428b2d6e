# SPDX-License-Identifier: MIT
"""What the examples fetch from PyPI: files of a known checksum, with a pip that goes on where a download broke off."""
import hashlib
import os
import pathlib
import subprocess
import sys


def environment(folder, packages):
    """The interpreter of a virtual environment with these packages, and a pip that resumes downloads."""
    installed, wanted = folder / "installed", "\n".join(packages)
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        print(f"installing {' '.join(packages)} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", "pip>=25.1", *packages], check=True)
        installed.write_text(wanted, encoding="utf-8")
    return folder / "bin" / "python"


def enter(python):
    """Starts this program again by the interpreter of an environment, unless that is what runs it, links or not."""
    if pathlib.Path(sys.prefix).resolve() != python.parents[1].resolve():
        os.execv(python, [python, *sys.argv])


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(path, python, requirement, checksum, *options):
    """A file of PyPI whose checksum has been verified; a broken download is resumed, another file refused."""
    if not path.exists():
        wanted = path.with_name("wanted.txt")
        wanted.write_text(f"{requirement} --hash=sha256:{checksum}\n", encoding="utf-8")
        print(f"downloading {path.name}", file=sys.stderr)
        subprocess.run([python, "-m", "pip", "download", "--no-deps", "--require-hashes", "--resume-retries", "20",
                        *options, "--dest", path.parent, "-r", wanted], check=True, stdout=sys.stderr)
    if digest(path) != checksum:
        sys.exit(f"{path} is not the file that was published (its SHA-256 differs); remove it and try again")
    return path
