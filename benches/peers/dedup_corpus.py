"""Makes the corpus of benches/dedup.rs and datatrove_dedup.py of the material that results/data.md names: JSON lines
with `id`, `source` and `text`, in as many files of much the same size as there are workers.

    python benches/peers/dedup_corpus.py --material /tmp/material --gsm8k gsm8k_train.jsonl.gz --out DIR [--files 2]
"""
import argparse, glob, gzip, json, pathlib

p = argparse.ArgumentParser()
p.add_argument("--material", type=pathlib.Path, required=True)
p.add_argument("--gsm8k", type=pathlib.Path, required=True)
p.add_argument("--out", type=pathlib.Path, required=True)
p.add_argument("--files", type=int, default=2)
a = p.parse_args()

FILES = {
    "novels": "novels/*.txt",
    "linux": "linux-doc-6.1/usr/share/doc/linux-doc-6.1/Documentation/**/*.gz",
    "perl": "perl-doc/usr/share/perl/*/pod/*.pod",
    "python-doc": "python3.11-doc/usr/share/doc/python3.11/html/**/*.html",
    "sympy": "sympy/**/*.py",
    "django": "django/**/*.py",
    "stdlib": "/usr/lib/python3*/**/*.py",
}

def documents():
    for source, pattern in FILES.items():
        for path in sorted(glob.glob(str(a.material / pattern), recursive=True)):
            path = pathlib.Path(path)
            if not path.is_file() or (path.is_symlink() and source == "python-doc"):
                continue
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            try:
                yield source, str(path), data.decode()
            except UnicodeDecodeError:
                pass
    for i, line in enumerate(gzip.open(a.gsm8k, "rt")):
        item = json.loads(line)
        yield "gsm8k", str(i), item["question"] + "\n" + item["answer"]
    for path in sorted((a.material / "dataframebench/dataframebench/data").glob("*.jsonl")):
        for i, line in enumerate(path.open()):
            text = "\n".join(str(value) for value in json.loads(line).values())
            yield "dataframebench", f"{path.name}:{i}", text
    chats = json.loads((a.material / "chitchat-dataset/chitchat_dataset/dataset.json").read_text())
    for name, chat in chats.items():
        yield "chitchat", name, "\n".join(m["text"] for turn in chat["messages"] for m in turn)

a.out.mkdir(parents=True, exist_ok=True)
files = [open(a.out / f"{i:05}.jsonl", "w") for i in range(a.files)]
sizes, counts = [0] * a.files, {}
for source, name, text in documents():
    if not text.strip():
        continue
    i = sizes.index(min(sizes))
    sizes[i] += files[i].write(json.dumps({"id": f"{source}/{name}", "source": source, "text": text}) + "\n")
    count = counts.setdefault(source, [0, 0])
    count[0] += 1
    count[1] += len(text.encode())
for source, (number, size) in counts.items():
    print(f"{source}: {number} documents, {size / 1e6:.1f} MB")
print(f"in all: {sum(n for n, _ in counts.values())} documents, {sum(s for _, s in counts.values()) / 1e6:.1f} MB")
