# SPDX-License-Identifier: MIT
"""./dev run, with the real model: test_run.py ENGINE. Without a model it says so and skips."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENGINE = None


def run(*arguments, code=0):
    done = subprocess.run([sys.executable, ROOT / "examples" / "llama" / "run.py", "--engine", ENGINE, *arguments],
                          capture_output=True, text=True, timeout=600)
    if done.returncode != code:
        raise AssertionError(f"exit status {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}")
    return done


class Run(unittest.TestCase):
    def test_continuations(self):
        text = (ROOT / "examples" / "capture" / "alice.txt").read_text(encoding="utf-8")[:1200]
        with tempfile.TemporaryDirectory() as folder:
            out, prompt = pathlib.Path(folder, "out.json"), pathlib.Path(folder, "prompt.txt")
            prompt.write_text(text, encoding="utf-8")
            done = run("--prompt", prompt, "--policy", "full", "--policy", "ada_snapkv:window=16", "--budget", "30%",
                       "--count", "8", "--json", out)
            again = run("--prompt", text, "--policy", "full", "--count", "8")
            runs = json.loads(out.read_text(encoding="utf-8"))
        self.assertEqual([r["run"] for r in runs], ["full cache", "full", "ada_snapkv:window=16"])
        whole, kept_all, evicted = runs
        self.assertEqual(kept_all["tokens"], whole["tokens"])
        self.assertEqual(len(whole["tokens"]), 8)
        self.assertLess(evicted["held_cache_bytes"], 0.5 * whole["held_cache_bytes"])
        self.assertIn("the same tokens", done.stdout)
        self.assertIn(whole["text"].strip().split("\n")[-1][:20], again.stdout)

    def test_what_is_wrong(self):
        self.assertIn("unknown policy 'snapkw'", run("--prompt", "a b c", "--policy", "snapkw", code=2).stderr)
        self.assertIn("neither a number", run("--prompt", "a b c", "--budget", "many", code=2).stderr)
        self.assertIn("prompt is empty", run("--prompt", " ", code=1).stderr)
        short = run("--prompt", "a b c", "--policy", "snapkv", "--policy", "full", "--count", "2", code=1).stdout
        self.assertIn("not run: ", short)  # its window is longer than the prompt
        self.assertIn("the same tokens", short)


if __name__ == "__main__":
    ENGINE = pathlib.Path(sys.argv.pop(1)).resolve()
    if not (ROOT / "build" / "model" / "done").exists():
        print("skipped: ./dev model fetches the model")
        sys.exit(77)
    unittest.main()
