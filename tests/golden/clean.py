"""Decisions of datatrove's filters, for `data::clean`: writes clean.json beside this file.

    pip install datatrove spacy ftfy==6.3.1
    python tests/golden/clean.py NOVELS GSM8K.jsonl.gz SYMPY

NOVELS is a folder of plain novels, SYMPY the package's folder. A text's decisions are given twice: with spaCy's words,
as datatrove runs, and with the words of `data::clean`, so that formulas and words can be told apart.
"""
import gzip
import json
import random
import re
import sys
import unicodedata
from pathlib import Path

import datatrove.pipeline.filters.fineweb_quality_filter as fineweb
import datatrove.pipeline.filters.gopher_quality_filter as quality
import datatrove.pipeline.filters.gopher_repetition_filter as repetition
import ftfy
from datatrove.data import Document
from importlib.metadata import version

WORD = re.compile(r"[\w\u0300-\u036f]+(?:['’][\w\u0300-\u036f]+)*|([^\w\s\u0300-\u036f])\1*")


def our_words(text, language=None):
    return [match.group() for match in WORD.finditer(text)]


def read(path):
    text = path.read_text(encoding="utf-8-sig")
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n"))


def cut(text, at, size):
    start = text.index("\n", at) + 1
    return text[start : text.index("\n", start + size) + 1]


def texts(novels, gsm8k, sympy):
    rng = random.Random("clean golden")
    files = sorted(novels.glob("*.txt"))
    prose = [cut(read(path), 20_000 + 500 * i, 700) for i, path in enumerate(files[:14])]
    yield from prose
    with gzip.open(gsm8k, "rt", encoding="utf-8") as lines:
        for line, _ in zip(lines, range(6)):
            item = json.loads(line)
            yield item["question"] + "\n" + item["answer"]
    for path in [p for p in sorted(sympy.glob("core/*.py")) if p.stat().st_size > 5000][:24:4]:
        yield cut(read(path), 1000, 800)
    sentences = re.findall(r"[A-Z][^.!?\n]+[.!?]", re.sub(r"\s+", " ", " ".join(prose)))
    plain = [s for s in sentences if 40 < len(s) < 120]
    page = lambda n: rng.sample(plain, n)
    # Gopher's quality rules.
    for mark in ("- ", "• "):
        yield "\n".join(mark + s for s in page(12))
    yield "\n".join(s + ("..." if i % 2 else "") for i, s in enumerate(page(12)))
    yield "\n".join(s[:-1] + ("…" if i % 4 else ".") for i, s in enumerate(page(12)))
    yield "\n".join("# ## " + " # ".join(s.split(" ")) for s in page(6))
    yield " ".join(w + " 12, (34) 56;" for w in " ".join(page(4)).split(" "))
    yield " ".join(w.replace(" ", "") for w in page(60))
    yield " ".join(w[:2] for s in page(14) for w in s.split(" "))
    yield " ".join(w for s in page(14) for w in s.split(" ") if w not in quality.STOP_WORDS)
    yield re.sub(r"[^\w ]", "", " ".join(w for s in page(14) for w in s.split(" ") if w not in quality.STOP_WORDS))
    yield " ".join(w + " ..." * (i % 7 == 0) for i, w in enumerate(" ".join(page(12)).split(" ")))
    # Line ends.
    yield "\n".join("-".join(s.split(" "))[:40].replace("-", "") + "." for s in page(60))
    yield " ".join(page(14)).replace(" ", "\n")
    yield "\n".join(s[i : i + 25] for s in page(12) for i in range(0, len(s), 25))
    yield "\n".join(s[:-1] for s in page(12))
    # Repetition of lines, paragraphs, and words, little and much.
    for times in (1, 3, 6, 9):
        line = rng.choice(plain)
        yield "\n".join(page(12) + [line] * times)
        yield "\n\n".join(page(12) + [line] * times)
    for length in (2, 3, 4, 5, 7, 10, 14):
        for share in (0.08, 0.15, 0.3):
            words = " ".join(page(14)).split(" ")
            phrase = words[:length]
            for _ in range(int(share * len(words) / length)):
                at = rng.randrange(len(words))
                words[at:at] = phrase
            yield " ".join(words)


def decisions(text):
    document = Document(text=text, id="0")
    found = {}
    for name, judge in (
        ("repetition", repetition.GopherRepetitionFilter()),
        ("quality", quality.GopherQualityFilter()),
        ("fineweb", fineweb.FineWebQualityFilter()),
    ):
        kept = judge.filter(document)
        found[name] = None if kept is True else kept[1]
    return found


MISREAD = [
    "It isnâ€™t â€œniceâ€\x9d â€” said the cafÃ©â€™s owner.",
    "Ã‰tÃ© Ã\xa0 la plage, dÃ©jÃ\xa0 vu",
    "voilÃ\xa0 le travail",
    "Â© 2004, 5Â°C, Â£20, Â½ cup",
    "schÃ¶n, MÃ¼nchen, StraÃŸe",
    "Ð\x9fÑ€Ð¸Ð²ÐµÑ‚, Ð¼Ð¸Ñ€",
    "zaÅ¼Ã³Å‚Ä‡ gÄ™Å›lÄ…",
    "æ—¥æœ¬èª\x9e",
    "smile ðŸ˜€ now",
    "cafÃƒÂ© twice",
    "Brontë…” stays",
    "L’été à Nîmes — “oui”",
    "IRMÃ… MANHÃ",
    "AHÅ™, the new sofa from IKEA®",
    "5 Å³ and 3 m², ±2 °C",
    "naïve façade; Ærøskøbing; piñata",
    "never UTF-8 at all\x85 \x93so\x94",
]


def main(novels, gsm8k, sympy):
    cases = []
    all_texts = list(texts(Path(novels), gsm8k, Path(sympy)))
    modules = (repetition, quality, fineweb)
    spacy_words = repetition.split_into_words
    for text in all_texts:
        case = {"text": text}
        for name, words in (("spacy", spacy_words), ("ours", our_words)):
            for module in modules:
                module.split_into_words = words
            case[name] = decisions(text)
        cases.append(case)
    settings = dict(
        unescape_html=False, fix_latin_ligatures=False, fix_character_width=False, uncurl_quotes=False
    )
    misread = [{"text": text, "fixed": ftfy.fix_text(text, **settings)} for text in MISREAD]
    out = {
        "datatrove": version("datatrove"),
        "spacy": version("spacy"),
        "ftfy": version("ftfy"),
        "cases": cases,
        "misread": misread,
    }
    target = Path(__file__).with_suffix(".json")
    target.write_text(json.dumps(out, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    count = lambda who, f: sum(case[who][f] is not None for case in cases)
    for f in ("repetition", "quality", "fineweb"):
        reasons = sorted({str(case["ours"][f]) for case in cases})
        print(f, len(cases), "dropped by", count("spacy", f), "and", count("ours", f), reasons)


main(*sys.argv[1:])
