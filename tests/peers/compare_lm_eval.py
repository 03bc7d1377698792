"""Compares scores of `harness eval` with lm-evaluation-harness's, on the same weights, items and texts.

    python tests/golden/cloze.py SmolLM2-135M-Instruct.Q4_1.gguf NOVELS --items 300 --text NOVELS/Lee_Penelope_1903.txt \
        --write peer > peer.json
    harness eval SmolLM2-135M-Instruct.Q4_1.gguf --suite tests/peers/lm_eval.toml --out peer/out
    python tests/peers/compare_lm_eval.py peer.json peer/out/records.jsonl

The suite's paths are relative to the folder in which `peer` lies. Prints what differs; the exit code is 1 when a
log-probability differs by 2e-3 or more, a choice that is no tie differs, or a perplexity differs in its fourth digit.
"""

import json, math, sys

peer = json.load(open(sys.argv[1], encoding="utf-8"))
records = [json.loads(line) for line in open(sys.argv[2], encoding="utf-8")]
cloze = [r for r in records if r["task"] == "cloze"]
assert len(cloze) == len(peer["cloze"]), (len(cloze), len(peer["cloze"]))

worst, other = 0.0, []
for i, (theirs, ours) in enumerate(zip(peer["cloze"], cloze)):
    logprobs = [choice["logprob"] for choice in ours["choices"]]
    worst = max(worst, max(abs(a - b) for a, b in zip(theirs["logprobs"], logprobs)))
    for metric, sizes in [("acc", [1] * 4), ("acc_norm", [len(c) for c in theirs["choices"]])]:
        ranked = sorted(x / n for x, n in zip(theirs["logprobs"], sizes))
        tie = ranked[-1] - ranked[-2] < 2e-3
        if theirs[metric] != ours["metrics"][metric] and not tie:
            other.append((i, metric))
print(f"{len(cloze)} items: log-probabilities differ by {worst:.2e} at most; choices differ at {other}")
for metric in ["acc", "acc_norm"]:
    mean = lambda values: sum(values) / len(values)
    print(metric, mean([x[metric] for x in peer["cloze"]]), mean([r["metrics"][metric] for r in cloze]))


def whole(task):
    parts = [r for r in records if r["task"] == task]
    return sum(r["metrics"]["nats_per_token"] * r["weight"] for r in parts), sum(r["weight"] for r in parts)


def digits(x, y):
    return f"{x:.4g}" == f"{y:.4g}"


nats, tokens = whole("rolling")
theirs = math.exp(-peer["rolling"]["nats"] / tokens)
ours = math.exp(nats / tokens)
same = [digits(theirs, ours)]
print(f"rolling perplexity: lm-eval {theirs:.6f}, harness {ours:.6f} ({tokens:.0f} tokens)")
nats, tokens = whole("sliding")
theirs, ours = math.exp(peer["sliding"]["nats_per_token"]), math.exp(nats / tokens)
same.append(digits(theirs, ours))
print(f"sliding perplexity: transformers {theirs:.6f}, harness {ours:.6f} ({tokens:.0f} tokens)")
sys.exit(worst >= 2e-3 or bool(other) or not all(same))
