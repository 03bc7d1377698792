"""datatrove's tokenisation of a folder of JSON lines, as one JSON line for alternate.py:

    pip install 'datatrove[io,processing]' && python benches/peers/datatrove_tokenize.py --corpus DIR --tokenizer tokenizer.json [--workers 2]

One task a worker, `<|endoftext|>` behind each document, no shuffling; from the text to the files of ids. `peak_mib` is the
largest sum of the processes' proportional set sizes, looked at five times a second.
"""
import argparse, glob, json, os, pathlib, tempfile, threading, time

p = argparse.ArgumentParser()
p.add_argument("--corpus", required=True)
p.add_argument("--tokenizer", required=True)
p.add_argument("--workers", type=int, default=2)
p.add_argument("--batch-size", type=int, default=10000, help="documents that are encoded at once; datatrove's default")
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
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    peak, done = [0], threading.Event()

    def watch():
        while not done.wait(0.2):
            peak[0] = max(peak[0], sum(map(pss, tree(os.getpid()))))

    threading.Thread(target=watch, daemon=True).start()
    with tempfile.TemporaryDirectory() as work:
        tokenizer = DocumentTokenizer(
            f"{work}/tokens", a.tokenizer, eos_token="<|endoftext|>", shuffle_documents=False, batch_size=a.batch_size
        )
        began = time.perf_counter()
        LocalPipelineExecutor(
            [JsonlReader(a.corpus), tokenizer], tasks=a.workers, workers=a.workers, logging_dir=f"{work}/logs"
        ).run()
        seconds = time.perf_counter() - began
        done.set()
        files = glob.glob(f"{work}/tokens/*.ds")
        assert len(files) == a.workers, os.listdir(f"{work}/tokens")
        tokens = sum(map(os.path.getsize, files)) // 2
    line = {"peer": "datatrove", "seconds": seconds, "tokens": tokens, "peak_mib": peak[0] / 1024}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
