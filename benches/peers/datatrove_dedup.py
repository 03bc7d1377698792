"""datatrove's MinHash deduplication of a folder of JSON lines, as one JSON line for alternate.py:

    pip install 'datatrove[io,processing]' spacy && python benches/peers/datatrove_dedup.py --corpus DIR [--workers 2]

Its settings are the defaults: 5-grams, 14 buckets of 8 hashes, 64 bits, English words by spaCy. Timed are signatures,
buckets and clusters, from the text to which documents go; the last step, which writes the others, is not. `peak_mib` is
the largest sum of the processes' proportional set sizes, looked at five times a second.
"""
import argparse, glob, json, pathlib, struct, tempfile, threading, time

p = argparse.ArgumentParser()
p.add_argument("--corpus", required=True)
p.add_argument("--workers", type=int, default=2)
a = p.parse_args()


def tree(pid):
    yield pid
    for task in glob.glob(f"/proc/{pid}/task/*/children"):
        try:
            for child in pathlib.Path(task).read_text().split():
                yield from tree(int(child))
        except OSError:
            pass


def pss(pid):
    try:
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def main():
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    import os

    peak, done = [0], threading.Event()

    def watch():
        while not done.wait(0.2):
            peak[0] = max(peak[0], sum(map(pss, tree(os.getpid()))))

    threading.Thread(target=watch, daemon=True).start()
    config = MinhashConfig()
    with tempfile.TemporaryDirectory() as work:
        stages = [
            ("signatures", a.workers, [JsonlReader(a.corpus), MinhashDedupSignature(f"{work}/signatures", config)]),
            ("buckets", config.num_buckets, [MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config)]),
            ("clusters", 1, [MinhashDedupCluster(f"{work}/buckets", f"{work}/clusters", config=config)]),
        ]
        began = time.perf_counter()
        for name, tasks, pipeline in stages:
            LocalPipelineExecutor(pipeline, tasks=tasks, workers=a.workers, logging_dir=f"{work}/logs/{name}").run()
        seconds = time.perf_counter() - began
        done.set()
        gone = sum(pathlib.Path(f).stat().st_size // struct.calcsize("I") for f in glob.glob(f"{work}/clusters/*.remove"))
    print(json.dumps({"peer": "datatrove", "seconds": round(seconds, 3), "gone": gone, "peak_mib": peak[0] // 1024}))


if __name__ == "__main__":
    main()
