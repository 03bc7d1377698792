"""A corpus of any size from a few novels: documents of sentences drawn from them, some of them duplicates.

    python benches/corpus.py /tmp/material/novels /tmp/corpus --bytes 8e9 [--seed 0] [--duplicates 0.2]

Writes /tmp/corpus/part-00.jsonl and so on, {"id", "text"} a line, the same bytes for the same arguments. Of the
documents `--duplicates` are copies of earlier ones: half of them exact, half with a word in fifty replaced."""

import argparse
import json
import pathlib
import random
import re

parser = argparse.ArgumentParser()
parser.add_argument("novels", type=pathlib.Path)
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("--bytes", type=float, required=True)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--duplicates", type=float, default=0.2)
arguments = parser.parse_args()

sentences = []
for path in sorted(arguments.novels.glob("*.txt")):
    text = " ".join(path.read_text(errors="replace").split())
    found = re.split(r"(?<=[.!?]) (?=[A-Z\"'])", text)
    sentences += [s for s in found if 40 <= len(s) <= 400]
words = sorted({w for s in sentences[:20000] for w in s.split() if w.isalpha()})

rng = random.Random(arguments.seed)
PART = 1 << 30
KEPT = 20000
earlier, written, number, part, out = [], 0, 0, 0, None
arguments.out.mkdir(parents=True, exist_ok=True)
while written < arguments.bytes:
    if out is None:
        out = (arguments.out / f"part-{part:02}.jsonl").open("w")
        in_part = 0
    if earlier and rng.random() < arguments.duplicates:
        text = earlier[rng.randrange(len(earlier))]
        if rng.random() < 0.5:
            changed = text.split(" ")
            for _ in range(len(changed) // 50):
                changed[rng.randrange(len(changed))] = words[rng.randrange(len(words))]
            text = " ".join(changed)
    else:
        text = " ".join(rng.choices(sentences, k=rng.randint(20, 60)))
        if len(earlier) < KEPT:
            earlier.append(text)
        else:
            earlier[rng.randrange(KEPT)] = text
    line = json.dumps({"id": number, "text": text}, ensure_ascii=False) + "\n"
    out.write(line)
    number += 1
    n = len(line.encode())
    written += n
    in_part += n
    if in_part >= PART:
        out.close()
        out, part = None, part + 1
if out:
    out.close()
print(f"{number} documents, {written} bytes in {arguments.out}")
