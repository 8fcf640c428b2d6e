#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes samples of documents: what measure_quality reads, one line of JSON per sample.

    samples.py --model DIR --documents DIR --out FILE [--measure prose,copy,needle] [--only TEXT]

A sample is a context, after which each policy evicts, and what follows it, whose last `scored` tokens are judged:

- prose: 2048 tokens of a document, then the 128 that it goes on with;
- copy: a text of 640 tokens and the request to repeat it, then a passage of it, whose first tokens say where. The
  passages of all samples lie evenly from the beginnings of their texts to the ends: were they all beginnings, policies
  that favour early tokens would seem to copy well;
- needle: secret numbers of one or of four cities in a text, then the number of one of them. The same tokens twice: in
  needle-N-before the question is in the context, so a policy that looks at the last queries can know it; in
  needle-N-after it comes when the policy has evicted.

Everything follows from the texts, the tokenizer and the seed, so samples are the same on every machine. A document is
a text (.txt) or a list of 2177 token ids (.json, prose only).
"""
import argparse
import json
import pathlib
import random
import sys

SEED = "kvevict 6"
CONTEXT, SCORED = 2048, 128
PROSE = CONTEXT + SCORED + 1  # the first token that follows is fed, not predicted
PIECE = 640  # tokens of a text to be copied, and of a haystack
COPY_FED, COPY_SCORED = 16, 64
NEEDLES = 16  # samples of each kind, each with its question before and after
MEASURES = ["prose", "copy", "needle"]
CITIES = ["Paris", "London", "Rome", "Berlin", "Madrid", "Vienna", "Tokyo", "Cairo", "Oslo", "Lima", "Athens", "Dublin",
          "Moscow", "Boston", "Delhi", "Prague"]


class Refused(Exception):
    """A document that is no use, in a sentence."""


def user(text):
    return ("<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            f"<|im_start|>user\n{text}")


ASSISTANT = "<|im_end|>\n<|im_start|>assistant\n"


def read(path, encode):
    """The ids of a document, and its text where it has one."""
    try:
        text = path.read_text(encoding="utf-8")
        ids = json.loads(text) if path.suffix == ".json" else encode(text)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Refused(f"{path} cannot be read: {error}") from error
    if not isinstance(ids, list) or any(type(i) is not int or i < 0 for i in ids):
        raise Refused(f"{path} is not a list of token ids, like [504, 1098, ...]; it needs {PROSE} of them")
    if len(ids) < PROSE:
        raise Refused(f"{path} has {len(ids)} tokens and needs {PROSE}: {CONTEXT} to evict from and {SCORED + 1} that "
                      "follow; please give a longer text")
    return ids, None if path.suffix == ".json" else text


def documents(folder, encode):
    paths = sorted(p for p in folder.iterdir() if p.suffix in (".txt", ".json")) if folder.is_dir() else []
    if not paths:
        raise Refused(f"{folder} holds no documents; please put texts (.txt) or token ids (.json) there")
    return {path.stem: read(path, encode) for path in paths}


def sample(name, measure, ids, context, scored):
    return {"sample": name, "measure": measure, "context": ids[:context], "follow": ids[context:], "scored": scored}


def prose(name, ids):
    return sample(f"prose/{name}", "prose", ids[:PROSE], CONTEXT, SCORED)


def copy(name, piece, place, encode):
    """A passage once more, `place` (0 to 1) of the way into the text."""
    context = encode(user("Repeat this text word for word.\n\n" + piece + ASSISTANT))
    whole = encode(piece)
    first = int(place * (len(whole) - COPY_FED - COPY_SCORED))
    again = whole[first:first + COPY_FED + COPY_SCORED]
    return sample(f"copy/{name}", "copy", context + again, len(context), COPY_SCORED)


def haystack(text, sentences, draw):
    """The text with the sentences put between its own, anywhere but in its last tenth."""
    parts = text.replace("\n", " ").split(". ")
    places = sorted(draw.sample(range(1, max(len(parts) * 9 // 10, len(sentences) + 1)), len(sentences)))
    for place, sentence in reversed(list(zip(places, sentences))):
        parts.insert(place, sentence)
    return ". ".join(parts)


def needle(name, text, keys, encode):
    draw = random.Random(f"{SEED} {name} {keys}")
    cities = draw.sample(CITIES, keys)
    firsts = draw.sample("123456789", keys)  # each another: only a first digit asks which number is meant
    numbers = [first + f"{draw.randrange(10000):04}" for first in firsts]
    hay = haystack(text, [f"The secret number of {c} is {n}" for c, n in zip(cities, numbers)], draw)
    asked = draw.randrange(keys)
    ask = f"\n\nWhat is the secret number of {cities[asked]}?"
    parts = [user(hay), ask + ASSISTANT, f"The secret number of {cities[asked]} is ", numbers[asked]]
    ids = [encode(part) for part in parts]
    whole, context = sum(ids, []), len(ids[0])
    for when, split in (("before", context + len(ids[1])), ("after", context)):
        yield sample(f"needle-{keys}-{when}/{name}", f"needle-{keys}-{when}", whole, split, len(ids[3]))


def pieces(texts, tokenizer):
    """(name, text) of PIECE tokens each; the first of every document before the second of any."""
    found = []
    for name, text in texts.items():
        offsets = tokenizer.encode(text).offsets
        for k in range(len(offsets) // PIECE):
            found.append((k, f"{name}/{k}", text[offsets[k * PIECE][0]:offsets[(k + 1) * PIECE - 1][1]].strip()))
    return [(name, piece) for _, name, piece in sorted(found)]


def samples(folder, tokenizer, measures):
    def encode(text):
        return tokenizer.encode(text).ids

    given = documents(folder, encode)
    if "prose" in measures:
        yield from (prose(name, ids) for name, (ids, _) in given.items())
    texts = {name: text for name, (_, text) in given.items() if text is not None}
    parts = pieces(texts, tokenizer)
    if "copy" in measures:
        copied = parts[:max(len(texts), 12)]
        for i, (name, piece) in enumerate(copied):
            yield copy(name, piece, (i + 0.5) / len(copied), encode)
    if "needle" in measures and parts:
        for keys, first in ((1, len(texts)), (4, len(texts) + NEEDLES)):
            for i in range(NEEDLES):
                name, piece = parts[(first + i) % len(parts)]
                name = name if i < len(parts) else f"{name}/{i // len(parts)}"
                yield from needle(name, piece, keys, encode)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="the folder that ./dev model makes")
    parser.add_argument("--documents", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--measure", default=",".join(MEASURES), help="some of prose,copy,needle")
    parser.add_argument("--only", default="", help="only samples that have this in their name")
    args = parser.parse_args()
    measures = args.measure.split(",")
    if wrong := [m for m in measures if m not in MEASURES]:
        sys.exit(f"quality: there is no measure '{wrong[0]}'; please name some of {','.join(MEASURES)}")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    try:
        made = [s for s in samples(args.documents, tokenizer, measures) if args.only in s["sample"]]
    except Refused as refused:
        sys.exit(f"quality: {refused}.")
    if not made:
        sys.exit("quality: no samples: these documents have no text that is long enough, or none has such a name.")
    args.out.write_text("".join(json.dumps(s) + "\n" for s in made), encoding="utf-8")


if __name__ == "__main__":
    main()
