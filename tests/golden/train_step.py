"""Makes train_step.safetensors: twenty training steps of a small Llama in PyTorch, for src/train/golden_tests.rs.

    pip install torch safetensors && python tests/golden/train_step.py
"""
import math, pathlib, torch, torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(3)
torch.set_num_threads(1)
V, D, L, H, KV, FF, T, ROWS, STEPS = 64, 32, 2, 4, 2, 64, 48, 3, 20
HD, EPS, THETA = D // H, 1e-5, 10000.0
LR, WARMUP, FLOOR, DECAY, CLIP = 1e-2, 5, 0.1, 0.1, 0.6

shapes = {"model.embed_tokens.weight": (V, D), "model.norm.weight": (D,), "lm_head.weight": (V, D)}
for l in range(L):
    p = f"model.layers.{l}."
    shapes |= {p + "input_layernorm.weight": (D,), p + "post_attention_layernorm.weight": (D,),
               p + "self_attn.q_proj.weight": (H * HD, D), p + "self_attn.k_proj.weight": (KV * HD, D),
               p + "self_attn.v_proj.weight": (KV * HD, D), p + "self_attn.o_proj.weight": (D, H * HD),
               p + "mlp.gate_proj.weight": (FF, D), p + "mlp.up_proj.weight": (FF, D), p + "mlp.down_proj.weight": (D, FF)}
w = {n: (1 + 0.1 * torch.randn(s) if len(s) == 1 else 0.25 * torch.randn(s)).requires_grad_() for n, s in shapes.items()}
initial = {n: t.detach().clone() for n, t in w.items()}

inv = 1.0 / THETA ** (torch.arange(0, HD, 2).double() / HD)
angles = torch.outer(torch.arange(T).float(), inv.float())
cos, sin = angles.cos()[:, None], angles.sin()[:, None]


def rope(x):
    a, b = x[..., : HD // 2], x[..., HD // 2:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def loss_of(ids, targets, starts, weights):
    x = w["model.embed_tokens.weight"][ids]
    pos = torch.arange(T)
    mask = (pos[None, None, :] <= pos[None, :, None]) & (pos[None, None, :] >= starts[:, :, None])
    for l in range(L):
        g = lambda n: w[f"model.layers.{l}.{n}.weight"]
        h = F.rms_norm(x, (D,), g("input_layernorm"), EPS)
        q = rope((h @ g("self_attn.q_proj").T).view(ROWS, T, H, HD)).transpose(1, 2)
        k = rope((h @ g("self_attn.k_proj").T).view(ROWS, T, KV, HD)).transpose(1, 2).repeat_interleave(H // KV, 1)
        v = (h @ g("self_attn.v_proj").T).view(ROWS, T, KV, HD).transpose(1, 2).repeat_interleave(H // KV, 1)
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
        x = x + o.transpose(1, 2).reshape(ROWS, T, H * HD) @ g("self_attn.o_proj").T
        h = F.rms_norm(x, (D,), g("post_attention_layernorm"), EPS)
        x = x + (F.silu(h @ g("mlp.gate_proj").T) * (h @ g("mlp.up_proj").T)) @ g("mlp.down_proj").T
    logits = F.rms_norm(x, (D,), w["model.norm.weight"], EPS) @ w["lm_head.weight"].T
    each = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1), reduction="none").view(ROWS, T)
    return (each * weights).sum() / weights.sum()


def batch():
    """Documents that count up by a step of their own, one token to thirty long."""
    ids, targets, starts, weights = (torch.zeros(ROWS, T, dtype=t) for t in (torch.long, torch.long, torch.long, torch.float))
    for r in range(ROWS):
        stream, first = [], []
        while len(stream) <= T:
            n, at, step = [1, 1, 5, 9, 17, 30][torch.randint(6, ()).item()], torch.randint(V, ()).item(), 1 + torch.randint(2, ()).item()
            first += [len(stream)] * n
            stream += [(at + step * i) % V for i in range(n)]
        s, f = torch.tensor(stream[: T + 1]), torch.tensor(first[: T + 1])
        ids[r], targets[r], starts[r], weights[r] = s[:-1], s[1:], f[:-1], (f[:-1] == f[1:]).float()
    return ids, targets, starts, weights


matrices = [t for t in w.values() if t.dim() > 1]
vectors = [t for t in w.values() if t.dim() == 1]
opt = torch.optim.AdamW([dict(params=matrices, weight_decay=DECAY), dict(params=vectors, weight_decay=0.0)],
                        lr=LR, betas=(0.9, 0.95), eps=1e-8)
out, losses, norms, batches = {}, [], [], []
for step in range(STEPS):
    b = batch()
    batches.append(b)
    if step < WARMUP:
        lr = LR * (step + 1) / WARMUP
    else:
        done = (step - WARMUP) / (STEPS - WARMUP - 1)
        lr = LR * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done)))
    for group in opt.param_groups:
        group["lr"] = lr
    loss = loss_of(*b)
    opt.zero_grad()
    loss.backward()
    norms.append(torch.nn.utils.clip_grad_norm_(list(w.values()), CLIP).item())
    opt.step()
    losses.append(loss.item())
print("losses", [round(x, 3) for x in losses], "norms", [round(x, 2) for x in norms], "clipped", sum(n > CLIP for n in norms))
assert losses[-1] < 0.8 * losses[0] and sum(n > CLIP for n in norms) > 10
for n in w:
    out["initial." + n], out["final." + n] = initial[n], w[n].detach().clone()
for i, name in enumerate(["ids", "targets", "doc_starts", "weights"]):
    out[name] = torch.stack([b[i] for b in batches]).to(torch.float32 if name == "weights" else torch.uint32)
out["losses"] = torch.tensor(losses, dtype=torch.float64)
out["norms"] = torch.tensor(norms, dtype=torch.float64)
save_file(out, pathlib.Path(__file__).with_suffix(".safetensors"))
