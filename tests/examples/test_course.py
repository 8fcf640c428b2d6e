# SPDX-License-Identifier: MIT
"""The course in examples/: its programs are short, and the README shows what they print and pictures of just that."""
import hashlib
import pathlib
import re
import unittest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
COURSE = EXAMPLES / "course"
README = (EXAMPLES / "README.md").read_text(encoding="utf-8")
NAMES = sorted(path.stem for path in COURSE.glob("[0-9]*.cpp"))


class Course(unittest.TestCase):
    def test_numbers(self):
        self.assertEqual([int(name[:2]) for name in NAMES], list(range(1, 11)))
        for ending in (".txt", ".png"):
            self.assertEqual(sorted(path.stem for path in COURSE.glob("[0-9]*" + ending)), NAMES, ending)

    def test_programs(self):
        for name in NAMES:
            with self.subTest(name):
                source = (COURSE / f"{name}.cpp").read_text(encoding="utf-8")
                self.assertLess(source.count("\n"), 80)
                for part in ("Equation", "Header", "Test"):  # named before the first line of code
                    self.assertRegex(source[: source.index("#include")], part)

    def test_readme(self):
        sections = re.split(r"^### ", README, flags=re.M)[1:]
        self.assertEqual(len(sections), len(NAMES))
        for number, (name, section) in enumerate(zip(NAMES, sections), 1):
            with self.subTest(name):
                self.assertTrue(section.startswith(f"{number}. "))
                shown = re.findall(r"^```\n(.*?)^```$", section, re.M | re.S)
                self.assertEqual(shown, [(COURSE / f"{name}.txt").read_text(encoding="utf-8")])
                self.assertIn(f"](course/{name}.png)", section)
                self.assertIn("| equation | header | test | measured cost |", section)

    def test_links(self):
        for link in re.findall(r"\]\(([^)#:]+)\)", README):
            self.assertTrue((EXAMPLES / link).exists(), link)

    def test_pictures(self):
        for name in NAMES:
            with self.subTest(name):
                picture = (COURSE / f"{name}.png").read_bytes()
                digest = hashlib.sha256((COURSE / f"{name}.txt").read_bytes()).hexdigest()
                self.assertIn(f"{name}.txt {digest}".encode(), picture, "draw it again: examples/course/pictures.py")
                self.assertLess(len(picture), 60000)


if __name__ == "__main__":
    unittest.main()
