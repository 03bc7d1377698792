"""Writes tests/golden/parquet/*.parquet with pyarrow (26.0.1), one for each compression.

Column `body` is text with nulls, as `datasets` writes it; `zstd_v2_required` has none, in pages of version 2 and
plain encoding."""
import os
import pyarrow as pa
import pyarrow.parquet as pq

folder = os.path.join(os.path.dirname(__file__), "parquet")
os.makedirs(folder, exist_ok=True)
text = [f"row {i}: café " + "word " * (i % 5) if i % 7 != 3 else None for i in range(50)]
tags = [[f"t{i % 3}"] * (i % 3) for i in range(50)]
table = pa.table({"id": list(range(50)), "body": text, "tags": tags})
for name in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
    pq.write_table(table, f"{folder}/{name}.parquet", compression=name, row_group_size=20)
schema = pa.schema([pa.field("body", pa.string(), nullable=False)])
table = pa.table({"body": [t or "" for t in text]}, schema=schema)
pq.write_table(
    table,
    f"{folder}/zstd_v2_required.parquet",
    compression="zstd",
    row_group_size=20,
    data_page_version="2.0",
    use_dictionary=False,
)
