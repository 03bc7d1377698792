"""Writes ruler.json: what NVIDIA's own generators and scorer of RULER give, for src/evals/ruler/tests.rs.

    pip download --no-deps nvidia-long-context-eval==26.3     # unzip it; the package is PACKAGE
    pip install transformers wonderwords==2.2.0 numpy scipy pyyaml tenacity tqdm
    python tests/golden/ruler.py PACKAGE base/tokenizer.json tests/golden/ruler.json

Per task: the first prompt (the ends of a long one); over 200 prompts of 2,048 to 8,192 tokens of the embedded base where
the needles are; and 200 outputs, made of the right answers by hand-written changes, with the score that NVIDIA's functions give them. Sentences
of the essays end by a regular expression here (nltk's model is no package), which decides between which words a needle
may stand and nothing else.
"""
import ast, json, os, random, re, subprocess, sys, tempfile

package, tokenizer, target = (os.path.abspath(path) for path in sys.argv[1:4])
root = os.path.join(package, "long_context_eval")
LENGTH, SAMPLES = 2048, 200
TASKS = ["niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3",
         "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2"]
# A question of HotpotQA has ten documents, which need more room; essays need many sentences to have depths between.
ESSAYS = ["niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multivalue", "niah_multiquery"]
LENGTHS = {"qa_1": 4096, "qa_2": 8192, **{task: 8192 for task in ESSAYS}}

SENTENCE_END = r'(?<=[.!?])\s+(?=[A-Z"])'
work = tempfile.mkdtemp()
os.makedirs(f"{work}/modules/nltk")
open(f"{work}/modules/nltk/__init__.py", "w").close()
with open(f"{work}/modules/nltk/tokenize.py", "w") as out:
    out.write("import re\n"
              "def sent_tokenize(text):\n"
              f"    return re.split(r'{SENTENCE_END}', text)\n")
os.makedirs(f"{work}/tokenizer")
with open(f"{work}/tokenizer/tokenizer.json", "w") as out:
    out.write(open(tokenizer).read())
with open(f"{work}/tokenizer/tokenizer_config.json", "w") as out:
    json.dump({"tokenizer_class": "PreTrainedTokenizerFast"}, out)


def samples(task):
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    environment["PYTHONPATH"] = ":".join([f"{work}/modules", package, os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, "prepare.py", "--save_dir", work, "--task", task, "--tokenizer_path",
                    f"{work}/tokenizer", "--tokenizer_type", "hf", "--max_seq_length", str(LENGTHS.get(task, LENGTH)),
                    "--num_samples", str(SAMPLES)], cwd=f"{root}/data", env=environment, check=True,
                   stdout=subprocess.DEVNULL)
    with open(f"{work}/{task}/validation.jsonl") as lines:
        return [json.loads(line) for line in lines]


# The scorer: two files of which one cannot be imported.
sys.path.insert(0, f"{root}/eval/synthetic")
from constants import string_match_all_per_sample, string_match_part_per_sample
tree = ast.parse(open(f"{root}/eval/evaluate.py").read())
postprocess = [node for node in tree.body if getattr(node, "name", "") == "postprocess_pred"]
scope = {"re": re}
exec(compile(ast.Module(postprocess, []), "evaluate.py", "exec"), scope)
postprocess_pred = scope["postprocess_pred"]


def output(rng, answers):
    """An answer of a model, right or wrong in one of the ways that answers are."""
    all_of_them = list(dict.fromkeys(answers))
    some = rng.sample(all_of_them, rng.randint(1, len(all_of_them)))
    one = rng.choice(all_of_them)
    at = rng.randrange(len(one))
    return rng.choice([
        lambda: " " + ", ".join(all_of_them) + ".",
        lambda: ", ".join(some),
        lambda: "",
        lambda: "\n\n",
        lambda: " ".join(all_of_them).upper(),
        lambda: "\n".join(f"{i + 1}. {a}" for i, a in enumerate(some)),
        lambda: f" I think that the answer is {one}, but I am not sure.",
        lambda: one[:at],
        lambda: one[:at] + "#" + one[at + 1:],
        lambda: one[:at] + rng.choice(["\x00", "\n", "\t", " ", "\x1f"]) + one[at:],
        lambda: "\x00\x1c " + one.capitalize() + "\x07",
        lambda: "x" + one + "9",
        lambda: "\u00a0" + one.swapcase() + "\u2003\x1e",
        lambda: "".join(all_of_them),
        lambda: one[::-1],
        lambda: ", ".join(some) + " \u0130\u00df\u03a3",
    ])()


def places(task, text):
    """Where each needle begins, from 0 to 1: of the context's characters, or of the essays' sentences."""
    if task.startswith("niah"):
        context = text.split("\n", 1)[1].rsplit("\nWhat ", 1)[0]
        answer = "One of the special magic "
        if task in ("niah_multikey_2", "niah_multikey_3"):
            key = re.search(r"for ([^\n]+?) mentioned in the provided text\?", text).group(1)
            answer = re.search(r"One of the special magic \w+ for " + re.escape(key) + " is: ", context).group(0)
    elif task == "vt":
        context = text.rsplit("\n\nMemorize and track", 1)[1].rsplit("\nQuestion:", 1)[0]
        answer = "VAR "
        starts = [m.start() for m in re.finditer(r"VAR [A-Z]{5} = ", context)]
        return [start / len(context) for start in starts]
    else:
        return []
    if task in ESSAYS:
        # The essays between the needles, in sentences; the last may be cut.
        parts = re.split(r"One of the special magic \w+ for .+? is: \S+\.", context)
        counts = [len([s for s in re.split(SENTENCE_END, part.strip()) if s]) for part in parts]
        return [sum(counts[:i + 1]) / sum(counts) for i in range(len(parts) - 1)]
    return [m.start() / len(context) for m in re.finditer(re.escape(answer), context)]


def ends(text):
    return text if len(text) <= 9000 else text[:1500] + text[-1500:]


golden = {}
for task in TASKS:
    made = samples(task)
    rng = random.Random(f"outputs of {task}")
    outputs = [output(rng, sample["outputs"]) for sample in made]
    score = string_match_part_per_sample if task.startswith("qa") else string_match_all_per_sample
    cleaned = [postprocess_pred(text, {}) for text in outputs]
    scores = score(cleaned, [sample["outputs"] for sample in made])
    histogram = [0] * 10
    needles = []
    for sample in made:
        at = places(task, sample["input"])
        needles.append(len(at))
        for place in at:
            histogram[min(int(place * 10), 9)] += 1
    golden[task] = {
        "first": ends(made[0]["input"]),
        "answers": sorted({len(sample["outputs"]) for sample in made}) if not task.startswith("qa") else [],
        "needles": sorted(set(needles)),
        "places": histogram,
        "scored": [[sample["outputs"], text, value] for sample, text, value in zip(made, outputs, scores)],
    }
    print(task, golden[task]["needles"], histogram, sum(scores) / len(scores), flush=True)
with open(target, "w") as out:
    json.dump(golden, out, indent=None, separators=(",", ":"))
    out.write("\n")
