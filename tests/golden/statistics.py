"""Makes statistics.json: numbers of scipy, statsmodels and numpy for src/verdict/tests.rs.

    pip install numpy scipy statsmodels && python tests/golden/statistics.py
"""
import json, pathlib
import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

values = [0.71, 0.68, 0.83]
m, se = np.mean(values), stats.sem(values)
low, high = stats.t.interval(0.95, len(values) - 1, loc=m, scale=se)
seeds = dict(values=values, mean=m, low=low, high=high, p=stats.ttest_1samp(values, 0).pvalue)

rng = np.random.default_rng(7)
cells = 0.2 + 0.1 * rng.normal(size=(3, 1)) + 0.3 * rng.normal(size=(1, 12)) + 0.2 * rng.normal(size=(3, 12))
s, c = cells.shape
rows, cols, mean = cells.mean(1), cells.mean(0), cells.mean()
# Mean squares of the two-way layout without replication, from a least-squares fit of its design.
design = np.array([[1.0] + [float(i == k) for k in range(1, s)] + [float(j == k) for k in range(1, c)]
                   for i in range(s) for j in range(c)])
fit, _, _, _ = np.linalg.lstsq(design, cells.ravel(), rcond=None)
ms_e = ((cells.ravel() - design @ fit) ** 2).sum() / ((s - 1) * (c - 1))
ms_s, ms_c = c * rows.var(ddof=1), s * cols.var(ddof=1)
total = ms_s + ms_c - ms_e
se = np.sqrt(total / (s * c))
df = total**2 / (ms_s**2 / (s - 1) + ms_c**2 / (c - 1) + ms_e**2 / ((s - 1) * (c - 1)))
assert total > ms_e
crossed = dict(cells=cells.tolist(), mean=mean, standard_error=se, df=df, low=mean - stats.t.ppf(0.975, df) * se,
               detectable=(stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * se,
               one_seed_p=stats.ttest_1samp(cells[0], 0).pvalue)
p = [0.01, 0.04, 0.03, 0.005, 0.5]
holm = dict(p=p, corrected=multipletests(p, method="holm")[1].tolist())
out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps(dict(seeds=seeds, crossed=crossed, holm=holm), indent=1) + "\n")
