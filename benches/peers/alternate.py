"""Runs commands that print one JSON line each in turn, A B A B ..., and prints medians and the ratios A/B pair by pair.

    python benches/peers/alternate.py --runs 5 --field tokens_per_s 'COMMAND A' 'COMMAND B' ['COMMAND C' ...]
"""
import argparse, json, os, shlex, statistics, subprocess

p = argparse.ArgumentParser()
p.add_argument("--runs", type=int, default=5)
p.add_argument("--field", default="tokens_per_s", help="what is compared; for seconds, the ratio is the other way round")
p.add_argument("commands", nargs="+")
a = p.parse_args()
rows = [[] for _ in a.commands]
for _ in range(a.runs):
    for row, command in zip(rows, a.commands):
        out = subprocess.run(shlex.split(command), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        row.append(json.loads([line for line in out.splitlines() if line.startswith("{")][-1]))
spread = lambda xs: f"{statistics.median(xs):.3f} ({min(xs):.3f} to {max(xs):.3f})"
print(f"load averages afterwards (1, 5, 15 minutes): {os.getloadavg()}")
for row in rows:
    print(f"{row[0]['peer']}: {a.field} {spread([r[a.field] for r in row])}, peak {statistics.median([r['peak_mib'] for r in row]):.0f} MiB")
for row in rows[1:]:
    pairs = [(x[a.field] / y[a.field]) if a.field != "seconds" else (y[a.field] / x[a.field]) for x, y in zip(rows[0], row)]
    memory = statistics.median(r["peak_mib"] for r in rows[0]) / statistics.median(r["peak_mib"] for r in row)
    print(f"faster than {row[0]['peer']}: {spread(pairs)} x; memory {memory:.3f} x")
