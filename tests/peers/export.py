"""Exports of trials, one of each RoPE method, against transformers: log-probabilities within 1e-4.

    cargo build --release && pip install torch transformers
    python tests/peers/export.py target/release/harness

Run by hand. It trains the small model of tests/small for some steps under each method, exports each trial, loads the
export with transformers and compares what both say of the same tokens, inside and beyond the trained context.
"""

import json
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, __version__

AXIS = """
[[axis]]
key = "stage.0.rope"
names = ["plain", "base", "linear", "ntk", "dynamic", "by_parts", "yarn", "yarn-mscale", "llama3", "longrope"]
values = [
    {},
    { base = 5e4 },
    { scaling = "linear", factor = 4 },
    { scaling = "ntk", factor = 4 },
    { scaling = "dynamic", factor = 2, original_context = 32 },
    { scaling = "by_parts", factor = 4, original_context = 32, beta_fast = 4 },
    { scaling = "yarn", base = 2e4, factor = 4, original_context = 32, truncate = false },
    { scaling = "yarn", factor = 4, original_context = 32, mscale = 0.7, mscale_all_dim = 0.5 },
    { scaling = "llama3", factor = 8, original_context = 64, low_freq_factor = 1, high_freq_factor = 4 },
    { scaling = "longrope", factor = 2, original_context = 32, short_factor = [1, 1.1, 1.2, 1.3], long_factor = [1, 2, 3, 4] },
]
"""

harness = pathlib.Path(sys.argv[1]).resolve()
small = pathlib.Path(__file__).parent.parent / "small"
random.seed(0)


def run(work, *arguments):
    subprocess.run([harness, "--quiet", *map(str, arguments)], cwd=work, check=True, stdout=subprocess.DEVNULL)


def logprobs(model, ids):
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]])).logits[0].float()
    return torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


worst = 0.0
with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    shutil.copytree(small, work / "small")
    study = (small / "study.toml").read_text()
    study = study[: study.index("[[axis]]")] + AXIS + study[study.index("[evals]") :]
    study = study.replace("seeds = [0, 1]", "seeds = [0]").replace("tokens = 5120", "tokens = 1280")
    (work / "study.toml").write_text(study)
    run(work, "sweep", "study.toml", "--out", "results")
    vocab = json.loads((work / "small/base/config.json").read_text())["vocab_size"]
    items = [[random.randrange(vocab) for _ in range(n)] for n in (24, 60, 200)]
    lines = [{"id": i, "token_ids": ids, "scored_from": 1} for i, ids in enumerate(items)]
    (work / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for trial in sorted((work / "results/trials").iterdir()):
        published = json.loads((trial / "result.json").read_text())
        out = work / "exports" / trial.name
        run(work, "export", trial, out, "--shard-size", "20KB")
        run(work, "score", "--checkpoint", out, "--input", "items.jsonl", "--output", f"{trial.name}.jsonl")
        rows = [json.loads(line) for line in (work / f"{trial.name}.jsonl").read_text().splitlines()]
        identity = json.loads((out / "config.json").read_text())["harness_rope_identity"]
        assert {identity} == {published["rope"]} | {row["rope"] for row in rows}, published["name"]
        model = AutoModelForCausalLM.from_pretrained(out).eval()
        tokenizer = AutoTokenizer.from_pretrained(out)
        text = "the cat sat on 12345 mats"
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
        differences = []
        for ids, row in zip(items, rows):
            ours = torch.tensor(row["logprobs"])
            differences.append((logprobs(model, ids) - ours).abs().max().item())
        worst = max(worst, *differences)
        shards = len(list(out.glob("*.safetensors")))
        shown = " ".join(f"{len(ids)}: {d:.1e}" for ids, d in zip(items, differences))
        print(f"{published['name']:28} RoPE {identity}  {shards} shards  {shown}")
print(f"transformers {__version__}: log-probabilities differ by {worst:.1e} at most")
sys.exit(worst >= 1e-4)
