"""Makes train_step.safetensors: twenty training steps of a small Llama-type model in PyTorch, for
src/train/golden_tests.rs. Takes a second; gives the same numbers at every run.

    pip install torch safetensors numpy && python tests/golden/train_step.py

The model is written out here in plain PyTorch in f32, so that its gradients are autograd's; clip and AdamW are
torch.nn.utils.clip_grad_norm_ and torch.optim.AdamW. The file holds, under Hugging Face's names, `initial.*` and
`final.*` weights; of every step (first dimension) `ids`, `targets`, `doc_starts` and `weights` [step, row, token],
`losses`, `grad_norms` (before the clip) and `lrs`. The numbers of the optimizer stand in its metadata.
"""
import json, math, pathlib
import torch
from safetensors.torch import save_file

STEPS, ROWS, TOKENS = 20, 3, 48
VOCAB, DIM, FF, LAYERS, HEADS, KV_HEADS, EPS, THETA = 64, 32, 64, 2, 4, 2, 1e-5, 10000.0
HEAD_DIM = DIM // HEADS
OPTIMIZER = dict(lr=1e-2, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, clip=1.0,
                 schedule="cosine", warmup=5, floor=0.1)
CONFIG = dict(model_type="llama", vocab_size=VOCAB, hidden_size=DIM, intermediate_size=FF, num_hidden_layers=LAYERS,
              num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, rms_norm_eps=EPS, rope_theta=THETA,
              max_position_embeddings=TOKENS, tie_word_embeddings=True)

torch.set_num_threads(1)
random = torch.Generator().manual_seed(20)


def initial_weights():
    normal = lambda *shape: torch.randn(shape, generator=random)
    weights = {"model.embed_tokens.weight": 0.3 * normal(VOCAB, DIM)}
    kv = KV_HEADS * HEAD_DIM
    matrices = {"self_attn.q_proj": (DIM, DIM), "self_attn.k_proj": (kv, DIM), "self_attn.v_proj": (kv, DIM),
                "self_attn.o_proj": (DIM, DIM), "mlp.gate_proj": (FF, DIM), "mlp.up_proj": (FF, DIM),
                "mlp.down_proj": (DIM, FF)}
    for layer in range(LAYERS):
        for part, shape in matrices.items():
            weights[f"model.layers.{layer}.{part}.weight"] = 0.25 * normal(*shape)
        for norm in ["input_layernorm", "post_attention_layernorm"]:
            weights[f"model.layers.{layer}.{norm}.weight"] = 1 + 0.2 * normal(DIM)
    weights["model.norm.weight"] = 1 + 0.2 * normal(DIM)
    return {name: torch.nn.Parameter(weight) for name, weight in weights.items()}


def rms_norm(x, weight):
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS))


def rope(x):
    """Half-split: dimension i turns with dimension i + HEAD_DIM / 2. x is [row, head, token, HEAD_DIM]."""
    inv_freq = 1.0 / THETA ** (torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM)
    angles = torch.outer(torch.arange(TOKENS).float(), inv_freq)
    cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def logits(w, ids, doc_starts):
    at = torch.arange(TOKENS)
    # [row, 1, query, key]: a token sees its own document up to itself.
    seen = ((at[None, None, :] <= at[None, :, None]) & (at[None, None, :] >= doc_starts[:, :, None]))[:, None]
    x = w["model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):
        part = lambda name: w[f"model.layers.{layer}.{name}.weight"]
        h = rms_norm(x, part("input_layernorm"))
        heads = lambda name: (h @ part(name).T).unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2)
        q, k, v = rope(heads("self_attn.q_proj")), rope(heads("self_attn.k_proj")), heads("self_attn.v_proj")
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, 1) for t in (k, v))
        scores = (q @ k.transpose(-1, -2) / math.sqrt(HEAD_DIM)).masked_fill(~seen, -math.inf)
        x = x + (scores.softmax(-1) @ v).transpose(1, 2).flatten(2) @ part("self_attn.o_proj").T
        h = rms_norm(x, part("post_attention_layernorm"))
        gated = torch.nn.functional.silu(h @ part("mlp.gate_proj").T) * (h @ part("mlp.up_proj").T)
        x = x + gated @ part("mlp.down_proj").T
    return rms_norm(x, w["model.norm.weight"]) @ w["model.embed_tokens.weight"].T


def batch(successor):
    """Rows cut from a stream of documents of 1 to 60 tokens in which `successor` mostly says what follows."""
    draw = lambda n: int(torch.randint(n, (), generator=random))
    lengths = [1, 1, 2, 3, 5, 9, 14, 25, 60]
    stream, starts = [], []
    while len(stream) <= ROWS * TOKENS:
        token, start = draw(VOCAB), len(stream)
        for _ in range(lengths[draw(len(lengths))]):
            stream.append(token)
            starts.append(start)
            token = int(successor[token]) if draw(10) else draw(VOCAB)
    n = ROWS * TOKENS
    rows = lambda values: torch.tensor(values).view(ROWS, TOKENS)
    first = [i - i % TOKENS for i in range(n)]  # of the token's row
    doc_starts = rows([max(starts[i] - first[i], 0) for i in range(n)])
    weights = rows([float(starts[i + 1] == starts[i]) for i in range(n)])
    return rows(stream[:n]), rows(stream[1:n + 1]), doc_starts, weights


def learning_rate(step):
    o = OPTIMIZER
    if step < o["warmup"]:
        return o["lr"] * (step + 1) / o["warmup"]
    done = (step - o["warmup"]) / (STEPS - o["warmup"] - 1)
    return o["lr"] * (o["floor"] + (1 - o["floor"]) * 0.5 * (1 + math.cos(math.pi * done)))


w = initial_weights()
out = {f"initial.{name}": weight.detach().clone() for name, weight in w.items()}
successor = torch.randint(VOCAB // 4, (VOCAB,), generator=random)
matrices, vectors = ([p for p in w.values() if (p.dim() > 1) == wide] for wide in (True, False))
adamw = torch.optim.AdamW(
    [dict(params=matrices, weight_decay=OPTIMIZER["weight_decay"]), dict(params=vectors, weight_decay=0.0)],
    lr=OPTIMIZER["lr"], betas=(OPTIMIZER["beta1"], OPTIMIZER["beta2"]), eps=OPTIMIZER["eps"])
columns = {name: [] for name in ["ids", "targets", "doc_starts", "weights", "losses", "grad_norms", "lrs"]}
for step in range(STEPS):
    ids, targets, doc_starts, weights = batch(successor)
    for group in adamw.param_groups:
        group["lr"] = learning_rate(step)
    adamw.zero_grad()
    nll = torch.nn.functional.cross_entropy(
        logits(w, ids, doc_starts).flatten(0, 1), targets.flatten(), reduction="none")
    loss = (nll * weights.flatten()).sum() / weights.sum()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(list(w.values()), OPTIMIZER["clip"])
    adamw.step()
    scalar = lambda x: torch.tensor(float(x), dtype=torch.float64)
    integers = [t.to(torch.uint32) for t in (ids, targets, doc_starts)]
    values = [*integers, weights, scalar(loss.detach()), scalar(norm), scalar(learning_rate(step))]
    for column, value in zip(columns.values(), values):
        column.append(value)
    print(f"step {step:2}  loss {float(loss.detach()):.4f}  grad norm {float(norm):.3f}  lr {learning_rate(step):.5f}")
out |= {name: torch.stack(column) for name, column in columns.items()}
out |= {f"final.{name}": weight.detach().clone() for name, weight in w.items()}
metadata = dict(config=json.dumps(CONFIG), optimizer=json.dumps(OPTIMIZER), torch=torch.__version__)
save_file(out, pathlib.Path(__file__).with_suffix(".safetensors"), metadata)
