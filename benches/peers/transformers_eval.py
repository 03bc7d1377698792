"""The evaluations of benches/evaluations.rs in transformers, on the same weights and token ids.

    cargo bench --bench evaluations -- ... --task passkey --write work.json
    python benches/peers/transformers_eval.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf --work work.json --task passkey

Prints one JSON line as the benchmark does. f32, SDPA, KV cache, logits only of the tokens that are scored.
"""
import argparse, json, os, resource, time
import torch
from transformers import AutoModelForCausalLM

p = argparse.ArgumentParser()
p.add_argument("--gguf", required=True)
p.add_argument("--work", required=True)
p.add_argument("--task", required=True, choices=["perplexity", "passkey", "generate"])
a = p.parse_args()
# Without CUDA's libraries transformers' look at the device fails.
torch.cuda.is_current_stream_capturing = lambda: False
torch.manual_seed(0)
folder, name = os.path.split(os.path.abspath(a.gguf))
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32, attn_implementation="sdpa").eval()
work = json.load(open(a.work))
start = time.perf_counter()
with torch.inference_mode():
    if a.task == "perplexity":
        w = work["perplexity"]
        ids, context, stride = torch.tensor(w["ids"]), w["context"], w["stride"]
        nats = scored = 0
        for begin in range(0, len(ids) - context + 1, stride):
            window = ids[begin : begin + context]
            n = context - 1 if begin == 0 else stride
            logits = model(window[None], use_cache=False, logits_to_keep=n + 1).logits[0, :-1]
            nats += torch.nn.functional.cross_entropy(logits, window[-n:], reduction="sum").item()
            scored += n
        result = float(torch.tensor(nats / scored).exp())
    elif a.task == "passkey":
        # Prompts of about one length in batches of 8, padded on the left.
        prompts = [torch.tensor(x) for x in work["passkey"]]
        result = 0
        for i in range(0, len(prompts), 8):
            batch = prompts[i : i + 8]
            n = max(map(len, batch))
            ids = torch.stack([torch.nn.functional.pad(x, (n - len(x), 0)) for x in batch])
            mask = torch.stack([torch.nn.functional.pad(torch.ones_like(x), (n - len(x), 0)) for x in batch])
            out = model.generate(ids, attention_mask=mask, max_new_tokens=16, do_sample=False, pad_token_id=0, eos_token_id=None)
            result += out.shape[0]
    else:
        w = work["generate"]
        prompts = [torch.tensor(x) for x in w["prompts"] for _ in range(w["samples"])]
        n = max(map(len, prompts))
        ids = torch.stack([torch.nn.functional.pad(x, (n - len(x), 0)) for x in prompts])
        mask = torch.stack([torch.nn.functional.pad(torch.ones_like(x), (n - len(x), 0)) for x in prompts])
        out = model.generate(ids, attention_mask=mask, max_new_tokens=w["new_tokens"], do_sample=True, temperature=0.8, top_k=50,
                             top_p=1.0, pad_token_id=0, eos_token_id=None)
        result = (out.shape[1] - n) * out.shape[0]
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(dict(peer=f"transformers {__import__('transformers').__version__} torch {torch.__version__}", seconds=round(seconds, 3),
                      result=result, peak_mib=round(peak / 2**20))))
