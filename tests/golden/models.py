"""Makes families.safetensors and rope.safetensors: logits and gradients of small random models in transformers, for
src/model/golden_tests.rs. Takes seconds; gives the same numbers at every run.

    pip install torch transformers safetensors && python tests/golden/models.py

All in f32 with eager attention. A file's metadata holds `said`, JSON whose `cases` have: `name`, `config` (config.json as
transformers writes it), for RoPE also `older` (the same as transformers 4 wrote it), and `weights` (whose weights the
case has). Tensors: `WEIGHTS.weight.NAME`; `CASE.ids` (one more than there are inputs), `CASE.logits` [input, id] and
`CASE.grad.NAME`, the gradient of the mean loss over the inputs. rope.safetensors also holds `CASE.inv_freq.LENGTH` and
`CASE.scale` of methods at the sizes that published models have.
"""
import copy, json, pathlib, sys
HERE = pathlib.Path(__file__).resolve().parent
# statistics.py stands here; who imports it below means Python's.
sys.path = [path for path in sys.path if pathlib.Path(path).resolve() != HERE]
import torch, transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, CONFIG_MAPPING
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()
SMALL = dict(vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
             num_key_value_heads=1, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
DEFAULT = dict(rope_type="default", rope_theta=10000.0)

FAMILIES = {
    "llama2": dict(model_type="llama", num_key_value_heads=2),
    "llama3": dict(model_type="llama", rope_parameters=LLAMA3),
    "code_llama": dict(model_type="llama", num_key_value_heads=2, rope_parameters=DEFAULT | dict(rope_theta=1e6)),
    "tinyllama": dict(model_type="llama", num_attention_heads=4),
    "smollm2": dict(model_type="llama", tie_word_embeddings=True, rope_parameters=DEFAULT | dict(rope_theta=1e5)),
    "llama_with_biases": dict(model_type="llama", attention_bias=True, mlp_bias=True),
    "mistral": dict(model_type="mistral", sliding_window=7),
    "mistral_without_window": dict(model_type="mistral", sliding_window=None, head_dim=12),
    "qwen2": dict(model_type="qwen2", tie_word_embeddings=True, sliding_window=7),
    "qwen2_windows": dict(model_type="qwen2", use_sliding_window=True, sliding_window=7, max_window_layers=1),
    "qwen3": dict(model_type="qwen3", head_dim=12, tie_word_embeddings=True),
    "qwen3_windows": dict(model_type="qwen3", head_dim=12, use_sliding_window=True, sliding_window=7,
                          attention_bias=True, layer_types=["sliding_attention", "full_attention"]),
}

# At a head dimension of 16 and a trained context of 24. `context` is max_position_embeddings.
SHORT = [1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 2.0, 2.5]
LONG = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 9.0]
ROPES = {
    "default": ({}, 24),
    "linear": (dict(factor=4.0), 96),
    "dynamic": (dict(factor=4.0), 24),
    "dynamic_theta": (dict(factor=2.5, rope_theta=500.0), 24),
    "yarn": (dict(factor=4.0, original_max_position_embeddings=24), 96),
    "yarn_inferred": (dict(factor=None, original_max_position_embeddings=24), 72),
    "yarn_untruncated": (dict(factor=4.0, original_max_position_embeddings=24, truncate=False, beta_fast=3.0,
                              beta_slow=0.25), 96),
    "yarn_mscale": (dict(factor=4.0, original_max_position_embeddings=24, mscale=1.7, mscale_all_dim=0.6), 96),
    "yarn_mscale_alone": (dict(factor=4.0, original_max_position_embeddings=24, mscale=1.7), 96),
    "yarn_attention_factor": (dict(factor=4.0, original_max_position_embeddings=24, attention_factor=1.31,
                                   rope_theta=1e6), 96),
    "llama3": (dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=24), 192),
    "llama3_bounds": (dict(factor=3.0, low_freq_factor=0.5, high_freq_factor=2.5,
                           original_max_position_embeddings=24), 96),
    "longrope": (dict(factor=4.0, short_factor=SHORT, long_factor=LONG, original_max_position_embeddings=24), 96),
    "longrope_inferred": (dict(short_factor=SHORT, long_factor=LONG, original_max_position_embeddings=24), 60),
    "longrope_attention_factor": (dict(short_factor=SHORT, long_factor=LONG, original_max_position_embeddings=24,
                                       attention_factor=1.19), 96),
}
INSIDE, BEYOND = 20, 44

# Frequencies alone, at sizes of published models: (head dimension, max_position_embeddings, parameters, lengths).
PUBLISHED = {
    "llama3_1": (128, 131072, dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                                   high_freq_factor=4.0, original_max_position_embeddings=8192), [8192]),
    "llama3_2": (64, 131072, dict(rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0,
                                  high_freq_factor=4.0, original_max_position_embeddings=8192), [8192]),
    "qwen2_5_yarn": (128, 32768, dict(rope_type="yarn", rope_theta=1e6, factor=4.0,
                                      original_max_position_embeddings=32768), [131072]),
    "yarn_64": (64, 16384, dict(rope_type="yarn", rope_theta=1e5, factor=8.0, original_max_position_embeddings=2048,
                                truncate=False), [16384]),
    "code_llama": (128, 16384, dict(rope_type="default", rope_theta=1e6), [16384]),
    "dynamic": (128, 4096, dict(rope_type="dynamic", rope_theta=10000.0, factor=2.0), [100, 4096, 4097, 9999, 65536]),
    "longrope": (96, 131072, dict(rope_type="longrope", rope_theta=10000.0, original_max_position_embeddings=4096,
                                  short_factor=[1.0 + 0.05 * i for i in range(48)],
                                  long_factor=[1.0 + 1.3 * i for i in range(48)]), [4096, 4097]),
}


def build(said):
    said = dict(said)
    said.setdefault("rope_parameters", DEFAULT)
    # transformers writes what it infers into the dict that it is given.
    return CONFIG_MAPPING[said.pop("model_type")](**copy.deepcopy(SMALL | said))


def model(config, state=None):
    # A new one for each length: a dynamic RoPE keeps the longest that it saw.
    made = AutoModelForCausalLM.from_config(copy.deepcopy(config), attn_implementation="eager", dtype=torch.float32)
    if state is not None:
        made.load_state_dict(state)
        return made.eval()
    random = torch.Generator().manual_seed(5)
    for name, weight in made.named_parameters():
        spread = 0.3 if weight.dim() == 1 else 0.35
        drawn = spread * torch.randn(weight.shape, generator=random)
        # Norms are around 1, biases around 0.
        weight.data = drawn + 1.0 if name.endswith("norm.weight") else drawn
    return made.eval()


def run(made, tokens, out, name):
    random = torch.Generator().manual_seed(tokens)
    ids = torch.randint(made.config.vocab_size, (1, tokens + 1), generator=random)
    made.zero_grad()
    logits = made(ids[:, :-1], use_cache=False).logits[0]
    torch.nn.functional.cross_entropy(logits, ids[0, 1:]).backward()
    out[f"{name}.ids"] = ids[0].to(torch.uint32)
    out[f"{name}.logits"] = logits.detach().clone()
    for weight, value in made.named_parameters():
        out[f"{name}.grad.{weight}"] = value.grad.clone()


def weights(made, out, name):
    for weight, value in made.named_parameters():
        out[f"{name}.weight.{weight}"] = value.detach().clone()


def text(config):
    return json.loads(config.to_json_string())


def older(config):
    """As transformers 4 wrote it: rope_theta at the top, rope_scaling with `type` where a method has one."""
    said = text(config)
    rope = said.pop("rope_parameters")
    said["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        said["rope_scaling"] = rope | {"type": rope.pop("rope_type")}
    return said


def save(cases, out, name):
    said = dict(cases=cases, torch=torch.__version__, transformers=transformers.__version__)
    # One key: safetensors writes several in an order of its own.
    save_file(out, HERE / f"{name}.safetensors", dict(said=json.dumps(said)))
    print(f"{name}: {len(cases)} cases, {(HERE / f'{name}.safetensors').stat().st_size} bytes")


def families():
    cases, out = [], {}
    for name, said in FAMILIES.items():
        config = build(said)
        made = model(config)
        weights(made, out, name)
        run(made, 24, out, name)
        cases.append(dict(name=name, weights=name, config=text(config)))
    save(cases, out, "families")


def ropes():
    cases, out = [], {}
    shape = dict(model_type="llama", head_dim=16, num_attention_heads=1, intermediate_size=8, tie_word_embeddings=True)
    first = model(build(shape))
    weights(first, out, "all")
    for name, (said, context) in ROPES.items():
        parameters = DEFAULT | dict(rope_type=name.split("_")[0]) | said
        config = build(shape | dict(rope_parameters=parameters, max_position_embeddings=context))
        for where, tokens in [("inside", INSIDE), ("beyond", BEYOND)]:
            case = f"{name}.{where}"
            run(model(config, first.state_dict()), tokens, out, case)
            cases.append(dict(name=case, weights="all", config=text(config), older=older(config)))
    for name, (head_dim, context, parameters, lengths) in PUBLISHED.items():
        config = build(shape | dict(head_dim=head_dim, rope_parameters=parameters, max_position_embeddings=context))
        for length in lengths:
            if parameters["rope_type"] == "default":
                made = AutoModelForCausalLM.from_config(config).model.rotary_emb
                inv_freq, scale = made.inv_freq, made.attention_scaling
            else:
                inv_freq, scale = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, "cpu", seq_len=length)
            out[f"{name}.inv_freq.{length}"] = inv_freq.clone()
        out[f"{name}.scale"] = torch.tensor(scale, dtype=torch.float64)
        cases.append(dict(name=name, lengths=lengths, config=text(config)))
    save(cases, out, "rope")


families()
ropes()
