# SPDX-License-Identifier: MIT
"""./dev quality with the real model, two small samples: test_run.py ENGINE. Without a model it says so and skips."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
ENGINE = None


def run(*arguments, code=0):
    done = subprocess.run([sys.executable, ROOT / "bench" / "quality" / "run.py", "--engine", ENGINE, *arguments],
                          capture_output=True, text=True, timeout=600)
    if done.returncode != code:
        raise AssertionError(f"exit status {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}")
    return done


class Run(unittest.TestCase):
    def test_measures_resumes_and_shows(self):
        with tempfile.TemporaryDirectory() as folder:
            small = ["--out", folder, "--only", "alice/1", "--measure", "needle", "--budget", "50%"]
            first = run(*small, "--policy", "ahakv", "--fresh")
            again = run(*small, "--policy", "ahakv", "--policy", "ada_ahakv")
            data = json.loads(pathlib.Path(folder, "quality.json").read_text(encoding="utf-8"))
            page = pathlib.Path(folder, "quality.html").read_text(encoding="utf-8")
        self.assertIn("left", first.stderr)
        self.assertIn("ada_ahakv", again.stdout)
        self.assertNotIn("ada_ahakv", first.stdout)
        ran = [(r["sample"], r["policy"]) for r in data["results"]]
        self.assertEqual(sorted(ran), sorted({(s, p) for s in ("needle-1-before/alice/1", "needle-1-after/alice/1")
                                              for p in ("full", "ahakv", "ada_ahakv")}))
        self.assertTrue(all(r["exact"] for r in data["results"] if r["policy"] == "full"))
        self.assertEqual(len(data["model_sha256"]), 64)
        self.assertIn("What this model cannot tell", page)
        self.assertIn("Ada-KV&#x27;s budgets over a scorer", page)
        self.assertIn("data:image/png;base64,", page)

    def test_what_is_wrong(self):
        self.assertIn("no measure 'poetry'", run("--measure", "poetry", code=1).stderr)
        self.assertIn("none of the samples", run("--only", "nothing", code=1).stderr)
        self.assertIn("unknown policy 'snapkw'", run("--only", "alice/1", "--policy", "snapkw", code=2).stderr)
        with tempfile.TemporaryDirectory() as folder:
            pathlib.Path(folder, "short.txt").write_text("A few words.", encoding="utf-8")
            self.assertIn("short.txt has 4 tokens and needs 2177", run("--documents", folder, code=1).stderr)


if __name__ == "__main__":
    ENGINE = pathlib.Path(sys.argv.pop(1)).resolve()
    if not (ROOT / "build" / "model" / "done").exists():
        print("skipped: ./dev model fetches the model")
        sys.exit(77)
    unittest.main()
