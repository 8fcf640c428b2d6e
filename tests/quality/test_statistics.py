# SPDX-License-Identifier: MIT
"""Statistics, comparisons, tables and samples of ./dev quality, on tables small enough to check by hand."""
import math
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "quality"))
import comparisons  # noqa: E402
import paired  # noqa: E402
import samples  # noqa: E402
import tables  # noqa: E402


def line(sample, policy, budget="10%", measure="prose", **fields):
    return {"sample": sample, "measure": measure, "policy": policy, "budget": budget, "slots": 10, "kld": 0.1,
            "log_kld": -3.0, "nll": 2.0, "agreement": 0.5, "accuracy": 0.5, "exact": False} | fields


def table(values, field="log_kld", measure="prose"):
    """values: policy -> one value per sample."""
    return paired.Results(line(f"s{i}", policy, measure=measure, **{field: v})
                          for policy, row in values.items() for i, v in enumerate(row))


class Statistics(unittest.TestCase):
    def test_mean_and_its_error(self):
        m = paired.mean([1, 2, 3, 6])  # deviations -2, -1, 0, 3: variance 14 / 3
        self.assertEqual((m.mean, m.count), (3, 4))
        self.assertAlmostEqual(m.error, math.sqrt(14 / 3 / 4))
        self.assertAlmostEqual(m.z, 3 / math.sqrt(14 / 12))
        self.assertEqual(paired.mean([5]), paired.Mean(5, None, 1))
        self.assertIsNone(paired.mean([5]).z)
        self.assertIsNone(paired.mean([0, 0]).z)
        self.assertEqual(paired.mean([-2, -2]).z, -math.inf)
        with self.assertRaises(ValueError):
            paired.mean([])

    def test_pairs_are_by_sample(self):
        # The samples differ by hundreds and the policies by one or so: only pairs can tell.
        r = table({"a": [0, 100, 200, 300], "b": [1, 102, 201, 302]})
        pair = r.pair("prose", ("a", "10%"), ("b", "10%"), "log_kld")
        self.assertEqual(pair.difference.mean, -1.5)
        self.assertAlmostEqual(pair.difference.error, math.sqrt(1 / 3 / 4))
        self.assertAlmostEqual(pair.difference.z, -1.5 / math.sqrt(1 / 12))
        self.assertEqual(pair.same_sign, 4)
        self.assertFalse(pair.clear)  # so few samples tell nothing
        more = table({"a": [0, 100, 200, 300] * 2, "b": [1, 102, 201, 302] * 2})
        self.assertTrue(more.pair("prose", ("a", "10%"), ("b", "10%"), "log_kld").clear)
        self.assertIsNone(r.pair("prose", ("a", "10%"), ("b", "25%"), "log_kld"))

    def test_pairs_use_common_samples_only(self):
        r = paired.Results([line("x", "a", log_kld=-1), line("y", "a", log_kld=-2), line("y", "b", log_kld=-5)])
        pair = r.pair("prose", ("a", "10%"), ("b", "10%"), "log_kld")
        self.assertEqual((pair.difference.mean, pair.difference.count), (3, 1))
        self.assertFalse(pair.clear)

    def test_signs(self):
        pair = table({"a": [3, -1, 2, 0], "b": [0, 0, 0, 0]}).pair("prose", ("a", "10%"), ("b", "10%"), "log_kld")
        self.assertEqual((pair.difference.mean, pair.same_sign), (1, 2))

    def test_summary(self):
        r = paired.Results([
            line("x", "full", "100%", nll=2.0), line("y", "full", "100%", nll=3.0),
            line("x", "a", nll=2.1, kld=0.2, log_kld=math.log(0.01)), line("y", "a", nll=3.3, kld=0.4, log_kld=0.0)])
        s = r.summary("prose", "a", "10%")
        self.assertAlmostEqual(s["kld"].mean, 0.3)
        self.assertAlmostEqual(s["kld"].error, 0.1)
        self.assertAlmostEqual(s["geometric_kld"].mean, 0.1)
        self.assertAlmostEqual(s["geometric_kld"].error, 0.1 * math.log(100) / 2)
        self.assertAlmostEqual(s["perplexity_change"].mean, 100 * (math.exp(0.2) - 1))
        self.assertAlmostEqual(s["perplexity_change"].error, 100 * math.exp(0.2) * 0.1)
        self.assertNotIn("perplexity_change", paired.Results([line("x", "a")]).summary("prose", "a", "10%"))

    def test_the_full_cache_is_no_policy(self):
        r = paired.Results([line("x", "full", "100%"), *(line("x", "a", b) for b in ("50%", "512", "5%")),
                            line("x", "b", problem="too small a budget")])
        self.assertEqual(r.policies(), ["a"])
        self.assertEqual(r.budgets(), ["512", "5%", "50%"])
        self.assertEqual(r.problems, {("prose", "b", "10%"): "too small a budget"})

    def test_nobody_is_lowest_alone_without_z(self):
        self.assertIn("a has the lowest value; it is not apart (|z| > 2) from 1 of the 2 others: b.",
                      table({"a": [0] * 9, "b": [1, -1, 0.3] * 3, "c": [9, 9.1, 9] * 3}).verdict("prose", "10%"))
        apart = table({"a": [0] * 9, "b": [1, 1.2, 1.1] * 3}).verdict("prose", "10%")  # errors sqrt(.06 / 8 / 9)
        self.assertEqual(apart, "a has the lowest value, with |z| of 38.1 or more to each of the 1 others.")
        self.assertIn("fewer than 8 samples cannot tell", table({"a": [0] * 7, "b": [1] * 7}).verdict("prose", "10%"))

    def test_other_measures_compare_the_answer(self):
        r = table({"a": [3, 4], "b": [1, 2]}, field="nll", measure="needle-1-after")
        self.assertEqual([p for p, _, _ in r.ranking("needle-1-after", "10%")], ["b", "a"])


class Comparisons(unittest.TestCase):
    def found(self, *policies):
        return {(c.question.split()[0], c.label, c.first, c.second) for c in comparisons.comparisons(list(policies))}

    def test_parts_of_ahakv(self):
        self.assertEqual(self.found("ahakv", "ahakv:gain=plain", "ahakv:prior=off,gain=plain"), {
            ("AhaKV's", "step gain instead of plain softmax", "ahakv", "ahakv:gain=plain"),
            ("AhaKV's", "value prior instead of none (gain=plain)", "ahakv:gain=plain", "ahakv:prior=off,gain=plain")})

    def test_ada_kv(self):
        self.assertEqual(self.found("h2o", "ada_h2o", "ada_h2o:safeguard=minimum", "ada_knorm"), {
            ("Ada-KV's", "h2o", "ada_h2o", "h2o"),
            ("Ada-KV's", "ada_h2o", "ada_h2o", "ada_h2o:safeguard=minimum")})

    def test_pools(self):
        self.assertEqual(self.found("snapkv", "snapkv:pool=none", "snapkv:pool=avg,pool_width=5", "ahakv",
                                    "pooled_ahakv"), {
            ("Pooled", "snapkv", "snapkv", "snapkv:pool=none"),
            ("Pooled", "snapkv:pool=avg,pool_width=5", "snapkv:pool=avg,pool_width=5", "snapkv:pool=none"),
            ("Pooled", "pooled_ahakv", "pooled_ahakv", "ahakv")})

    def test_nothing_to_compare(self):
        self.assertEqual(self.found("h2o", "tova"), set())


class Tables(unittest.TestCase):
    def test_numbers(self):
        self.assertEqual(tables.number(paired.Mean(0.5, 0.25, 4), "+.1f", 100), "+50.0 ± 25.0")
        self.assertEqual(tables.number(paired.Mean(0.5, None, 1), ".2f"), "0.50")

    def test_text(self):
        shown = tables.text(table({"a": [0, 0.1], "b": [1, 1.3]}))
        self.assertIn("lowest", shown)
        self.assertIn("+1.100 ± 0.100  +11.0     2 of 2", shown)


class Words:
    """A tokenizer: a token per word, one for each new line and full stop."""

    def __init__(self):
        self.known = {}

    def encode(self, text):
        self.ids, self.offsets, place = [], [], 0
        for word in text.replace("\n", " \n ").replace(".", " .").split(" "):
            if word:
                self.ids.append(self.known.setdefault(word, len(self.known)))
                self.offsets.append((text.index(word, place), text.index(word, place) + len(word)))
                place = self.offsets[-1][1]
        return self


class Samples(unittest.TestCase):
    def made(self, files, measures=samples.MEASURES):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                pathlib.Path(folder, name).write_text(text, encoding="utf-8")
            return list(samples.samples(pathlib.Path(folder), Words(), measures))

    def refusal(self, files):
        with self.assertRaises(samples.Refused) as refused:
            self.made(files)
        return str(refused.exception)

    text = ". ".join(f"Sentence number {i} of a text" for i in range(400))  # 7 tokens each

    def test_every_measure(self):
        made = self.made({"t.txt": self.text})
        count = {m: sum(s["measure"] == m for s in made) for m in {s["measure"] for s in made}}
        self.assertEqual(count, {"prose": 1, "copy": 4, "needle-1-after": 16, "needle-1-before": 16,
                                 "needle-4-after": 16, "needle-4-before": 16})
        self.assertEqual(len({s["sample"] for s in made}), len(made))
        self.assertEqual(made, self.made({"t.txt": self.text}))
        self.assertTrue(all(0 < s["scored"] < len(s["follow"]) for s in made))
        self.assertEqual((len(made[0]["context"]), len(made[0]["follow"]), made[0]["scored"]), (2048, 129, 128))

    def test_question_before_and_after(self):
        made = {s["sample"]: s for s in self.made({"t.txt": self.text}, ["needle"])}
        for name, after in made.items():
            if "-after" in name:
                before = made[name.replace("-after", "-before")]
                self.assertEqual(before["context"] + before["follow"], after["context"] + after["follow"])
                self.assertGreater(len(before["context"]), len(after["context"]))
                answer = after["follow"][-1]  # a word here; it stands in the haystack too
                self.assertIn(answer, after["context"])

    def test_ids(self):
        made = self.made({"t.json": str(list(range(2177)))})
        self.assertEqual([s["measure"] for s in made], ["prose"])
        self.assertEqual(made[0]["follow"], list(range(2048, 2177)))

    def test_what_is_wrong(self):
        self.assertIn("t.txt has 3 tokens and needs 2177", self.refusal({"t.txt": "a b c"}))
        self.assertIn("t.json has 2 tokens and needs 2177", self.refusal({"t.json": "[1, 2]"}))
        self.assertIn("t.json is not a list of token ids", self.refusal({"t.json": '{"a": 1}'}))
        self.assertIn("t.json is not a list of token ids", self.refusal({"t.json": '["a", -1]'}))
        self.assertIn("t.json cannot be read", self.refusal({"t.json": "[1, "}))
        self.assertIn("holds no documents", self.refusal({"t.pdf": ""}))


if __name__ == "__main__":
    unittest.main()
