"""Makes datatrove.json: what datatrove's MinHash finds among small documents, for src/data/dedup/datatrove_tests.rs. Takes
a minute, most of it importing; gives the same numbers at every run.

    pip install 'datatrove[io,processing]' spacy && python tests/golden/datatrove.py

`a` and `b` are the permutations' numbers; `documents` the words of each document as datatrove normalises and cuts them,
with a space between; `buckets` the pairs of documents that MinhashDedupBuckets writes for each bucket.
"""
import json, pathlib, random, struct, sys, tempfile
HERE = pathlib.Path(__file__).resolve().parent
# statistics.py stands here; who imports it below means Python's.
sys.path = [path for path in sys.path if pathlib.Path(path).resolve() != HERE]

FILES = 2
COMMON = """the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which
one you were all her she there would their we him been has when who will no more if out so up said what its about than
into them can only other time new some could these two may first then do any like my now over such our man me even most
made after also did many off before must well back through years much where your way down should because long each just
state people too mr good world""".split()
ODD = ["can't", "Größe,", "3.14", "10am", "naïve—", "(U.S.)", "x_1", "don't", "1,000,000", "«déjà»", "e.g.", "GPU:", "İzmir", "cannot",
       "ΣΟΦΙΑ", "日本", "it's", "#5", "http://a.b/c?d=1"]


def documents():
    rng = random.Random(6)
    made = []
    for i in range(160):
        if i % 8 == 7:
            made.append(" ".join(rng.choices(COMMON, k=rng.randrange(1, 8))))
        elif i % 2 and made:
            words = made[rng.randrange(len(made))].split(" ")
            for _ in range(rng.randrange(1, 3)):
                words[rng.randrange(len(words))] = rng.choice(COMMON + ODD)
            made.append(" ".join(words))
        else:
            made.append(" ".join(rng.choices(COMMON + ODD, k=rng.randrange(30, 120))))
    return made


def main():
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupSignature
    from datatrove.utils.text import simplify_text

    config = MinhashConfig()
    texts = documents()
    each = len(texts) // FILES
    with tempfile.TemporaryDirectory() as work:
        signature = MinhashDedupSignature(f"{work}/signatures", config)
        for rank in range(FILES):
            part = texts[rank * each:(rank + 1) * each]
            signature.run((Document(text=text, id=str(i)) for i, text in enumerate(part)), rank, FILES)
        words = [" ".join(signature.word_tokenizer.word_tokenize(simplify_text(text, config.norm_config))) for text in texts]
        buckets = []
        for bucket in range(config.num_buckets):
            MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config).run(None, bucket, config.num_buckets)
            data = (pathlib.Path(work) / f"buckets/{bucket:05d}_00.dups").read_bytes()
            buckets.append(sorted([f1 * each + d1, f2 * each + d2] for f1, d1, f2, d2 in struct.iter_unpack("<4I", data)))
        a, b = (x[0].tolist() for x in signature.parameters)
    golden = {"ngram": config.n_grams, "rows": config.hashes_per_bucket, "a": a, "b": b, "documents": words, "buckets": buckets}
    with open(HERE / "datatrove.json", "w") as out:
        json.dump(golden, out, ensure_ascii=False, separators=(",", ":"))
        out.write("\n")
    print(f"{sum(map(len, buckets))} pairs in {len(buckets)} buckets")


if __name__ == "__main__":
    main()
