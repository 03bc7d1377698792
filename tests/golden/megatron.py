"""Megatron-LM's indexed format, read and written from its description (src/data/megatron.rs; made from
megatron/core/datasets/indexed_dataset.py) with struct and numpy alone, without this program and without Megatron.

    python tests/golden/megatron.py make tests/golden/megatron   # the files that the tests compare bytes with
    python tests/golden/megatron.py read PREFIX...               # fails where a corpus is not as described; prints one JSON line each
"""
import hashlib, json, os, struct, sys
import numpy as np

TYPES = {4: np.dtype("<i4"), 8: np.dtype("<u2")}


def read(prefix):
    """All documents of a corpus, as arrays; every number of the index is checked against the others and the .bin."""
    raw = open(prefix + ".idx", "rb").read()
    assert raw[:9] == b"MMIDIDX\0\0", "magic"
    version, code = struct.unpack_from("<QB", raw, 9)
    assert version == 1, f"version {version}"
    sequences, indices = struct.unpack_from("<QQ", raw, 18)
    at, parts = 34, []
    for dtype, count in (("<i4", sequences), ("<i8", sequences), ("<i8", indices)):
        parts.append(np.frombuffer(raw, dtype, count, at))
        at += parts[-1].nbytes
    assert at == len(raw), f"{len(raw)} bytes, {at} described"
    sizes, pointers, documents = parts
    dtype = TYPES[code]
    ends = np.cumsum(sizes, dtype=np.int64) * dtype.itemsize
    assert (sizes >= 0).all() and (pointers == ends - sizes.astype(np.int64) * dtype.itemsize).all(), "pointers"
    assert documents[0] == 0 and (np.diff(documents) >= 0).all() and documents[-1] == sequences, "documents"
    size = os.path.getsize(prefix + ".bin")
    assert size == (ends[-1] if sequences else 0), f".bin has {size} bytes"
    tokens = np.fromfile(prefix + ".bin", dtype)
    bounds = np.concatenate([[0], ends // dtype.itemsize])
    return [tokens[bounds[a]:bounds[b]] for a, b in zip(documents, documents[1:])], dtype


def write(prefix, documents, code):
    """Documents are lists of sequences, sequences lists of ids."""
    sequences = [s for d in documents for s in d]
    width = TYPES[code].itemsize
    with open(prefix + ".bin", "wb") as out:
        for s in sequences:
            out.write(struct.pack(f"<{len(s)}{'H' if code == 8 else 'i'}", *s))
    starts, at = [], 0
    for s in sequences:
        starts.append(at)
        at += len(s) * width
    firsts, n = [0], 0
    for d in documents:
        n += len(d)
        firsts.append(n)
    with open(prefix + ".idx", "wb") as out:
        out.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, code, len(sequences), len(firsts)))
        out.write(struct.pack(f"<{len(sequences)}i", *map(len, sequences)))
        out.write(struct.pack(f"<{len(sequences)}q", *starts))
        out.write(struct.pack(f"<{len(firsts)}q", *firsts))


if sys.argv[1] == "make":
    # Documents 0 to 4 have 3, 0, 1, 5 and 2 ids: the squares from 0 on, times 9973, modulo the vocabulary.
    ids, at = [], 0
    for n in (3, 0, 1, 5, 2):
        ids.append([(i * i * 9973) for i in range(at, at + n)])
        at += n
    for name, code, vocabulary in (("u16", 8, 65499), ("i32", 4, 65500)):
        write(f"{sys.argv[2]}/{name}", [[[i % vocabulary for i in d]] for d in ids], code)
    # Documents of several sequences, as Megatron writes them when it splits sentences: 1 2 3 | 4, nothing, 5 6.
    write(f"{sys.argv[2]}/sentences", [[[1, 2, 3], [4]], [], [[5, 6]]], 8)
else:
    for prefix in sys.argv[2:]:
        documents, dtype = read(prefix)
        flat = np.concatenate([d.astype("<u4") for d in documents] or [np.array([], "<u4")])
        hash = hashlib.sha256(flat.tobytes()).hexdigest()
        print(json.dumps({"documents": len(documents), "tokens": len(flat), "type": dtype.name, "sha256": hash}))
