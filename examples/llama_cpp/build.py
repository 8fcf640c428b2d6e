#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds an unpatched llama.cpp from PyPI's source package, for examples/llama_cpp.

    ./dev llama-cpp

The source package of llama-cpp-python 0.3.36 (77 MB) carries llama.cpp (commit 0c1e57098). It is built for this
machine's CPU (83 steps, three minutes on two cores) and installed into build/llama.cpp; beside it lies the model's 4-bit
GGUF file, out of the wheel that ./dev model fetches too. What broke off goes on when it is run again. Fewer compilers at
a time: CMAKE_BUILD_PARALLEL_LEVEL=1.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "llama"))
import model  # noqa: E402  examples/llama/model.py
import pypi  # noqa: E402

FOLDER = ROOT / "build" / "llama.cpp"
VERSION, COMMIT = "0.3.36", "0c1e57098"
CHECKSUM = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
OFF = ["LLAMA_BUILD_COMMON", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_TOOLS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_SERVER",
       "LLAMA_BUILD_APP", "LLAMA_OPENSSL", "GGML_CCACHE"]
OPTIONS = ["-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_INSTALL_LIBDIR=lib", "-DCMAKE_INSTALL_RPATH=$ORIGIN",
           "-DBUILD_SHARED_LIBS=ON", "-DGGML_OPENMP=ON", "-DGGML_NATIVE=ON", "-DLLAMA_BUILD_NUMBER=0",
           f"-DLLAMA_BUILD_COMMIT={COMMIT}", *(f"-D{option}=OFF" for option in OFF)]


def unpack(archive, folder):
    """llama.cpp alone; under another name first, so that an interrupted run leaves nothing that looks complete."""
    if folder.exists():
        return folder
    inside, unfinished = f"llama_cpp_python-{VERSION}/vendor/llama.cpp/", folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with tarfile.open(archive) as files:
        files.extractall(unfinished, [m for m in files if m.name.startswith(inside)])
    os.replace(unfinished / inside, folder)
    shutil.rmtree(unfinished)
    return folder


def build(source, folder):
    subprocess.run(["cmake", "-S", source, "-B", folder, "-G", "Ninja", f"-DCMAKE_INSTALL_PREFIX={FOLDER}", *OPTIONS],
                   check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder], check=True, stdout=sys.stderr)
    subprocess.run(["cmake", "--install", folder], check=True, stdout=subprocess.DEVNULL)


def main():
    done, wanted = FOLDER / "done", " ".join([CHECKSUM, model.CHECKSUM, *OPTIONS])
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        print(f"llama-cpp: {FOLDER} is up to date", file=sys.stderr)
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    models = ROOT / "build" / "model"
    models.mkdir(exist_ok=True)
    try:
        python = pypi.environment(models / "venv", model.PINNED)
        archive = pypi.fetch(FOLDER / f"llama_cpp_python-{VERSION}.tar.gz", python, f"llama-cpp-python=={VERSION}",
                             CHECKSUM, "--no-binary", ":all:")
        gguf = model.extract(model.fetch(models, python), FOLDER)
        os.replace(gguf, FOLDER / "model.gguf")
        gguf.parent.rmdir()
        source, objects = unpack(archive, FOLDER / "source"), FOLDER / "objects"
        build(source, objects)
    except subprocess.CalledProcessError as error:
        sys.exit(f"llama-cpp: this step failed, what was done is kept, run it again to go on: {error}")
    done.write_text(wanted, encoding="utf-8")
    for folder in source, objects:
        shutil.rmtree(folder)
    print(f"llama-cpp: {FOLDER}: llama.cpp {COMMIT} and model.gguf", file=sys.stderr)


if __name__ == "__main__":
    main()
