"""Makes statistics.json: numbers of scipy, statsmodels and numpy for src/verdict/tests.rs.

    pip install numpy scipy statsmodels && python tests/golden/statistics.py
"""
import json, pathlib
import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint

values = [0.71, 0.68, 0.83]
m, se = np.mean(values), stats.sem(values)
low, high = stats.t.interval(0.95, len(values) - 1, loc=m, scale=se)
seeds = dict(values=values, mean=m, low=low, high=high, p=stats.ttest_1samp(values, 0).pvalue)

quantiles = [dict(alpha=alpha, df=df, t=stats.t.isf(alpha / 2, df))
             for alpha in [0.4, 0.1, 0.05, 0.05 / 7, 1e-4] for df in [1, 1.3, 2, 4.5, 29, 1e3, 1e5, 1e6, 1e7, 1e8]]
p_values = [dict(t=t, df=df, p=2 * stats.t.sf(t, df)) for t in [0, 0.3, 1.7, 4, 9] for df in [1, 2.5, 12, 1e4, 1e7]]
# The mean of a standard deviation with df degrees of freedom, of the true one.
deviations = [dict(df=df, mean=stats.chi(df).mean() / np.sqrt(df)) for df in [1, 2, 4, 9, 30]]

# The noncentrality of a one-sample t test with df + 1 observations: power 0.8 in its own direction.
power = []
for df in [2, 4, 9, 29, 99]:
    for alpha in [0.05, 0.05 / 7]:
        effect = TTestPower().solve_power(nobs=df + 1, alpha=alpha / 2, power=0.8, alternative="larger")
        power.append(dict(df=df, alpha=alpha, shift=effect * np.sqrt(df + 1)))

wilson = []
for hits, n in [(0, 10), (1, 30), (15, 30), (78, 80), (80, 80)]:
    low, high = proportion_confint(hits, n, alpha=0.05, method="wilson")
    wilson.append(dict(hits=hits, n=n, low=low, high=high))
exact = [dict(gained=b, lost=c, p=float(mcnemar([[0, b], [c, 0]], exact=True).pvalue))
         for b, c in [(0, 0), (1, 0), (9, 2), (10, 10), (3, 40), (300, 251)]]

p = [0.01, 0.04, 0.03, 0.005, 0.5]
holm = dict(p=p, corrected=multipletests(p, method="holm")[1].tolist())

# Clusters of unequal size under three seeds, two of the strata in each cluster or one: the jackknife by leaving clusters out.
rng = np.random.default_rng(7)
rows = []
for c in range(12):
    u = 0.3 * rng.normal()
    for i in range(1 + int(rng.exponential(3))):
        stratum = int(rng.integers(2))
        weight = float(rng.integers(1, 4))
        for s in range(3):
            rows.append((s, stratum, f"{c:02}/{i}", f"{c:02}", 0.2 + u + 0.1 * s + 0.4 * rng.normal(), weight))
shift = np.array([0.0, 0.1, 0.2])


def seed_means(rows):
    """Mean over strata of weighted means, a seed each."""
    out = []
    for s in range(3):
        of = [[(v, w) for (seed, l, _, _, v, w) in rows if seed == s and l == stratum] for stratum in range(2)]
        out.append(np.mean([np.average([v for v, _ in x], weights=[w for _, w in x]) for x in of]))
    return np.array(out)


def moments(rows, copies):
    """copies: cluster names, repeated; each copy is a cluster of its own."""
    sample = [[r for r in rows if r[3] == name] for name in copies]
    whole = seed_means([r for part in sample for r in part])
    n = len(copies)
    strata = [sum(r[5] for part in sample for r in part if r[0] == 0 and r[1] == l) for l in range(2)]
    left_out = []
    for i in range(n):
        left_out.append(whole - seed_means([r for j, part in enumerate(sample) if j != i for r in part]))
    u = np.array(left_out)                       # n x seeds: the shift of the mean, whose sign does not matter
    free = (n - 1) / n                            # the strata share clusters: one part
    middle = u.mean(1)
    of_clusters = free * (middle ** 2).sum()
    interaction = free * ((u - middle[:, None]) ** 2).sum() / (3 * 2)
    of_seeds = whole.var(ddof=1) / 3
    share = [np.mean([sum(r[5] for r in part if r[0] == 0 and r[1] == l) / strata[l] for l in range(2)]) for part in sample]
    return dict(mean=whole.mean(), of_seeds=max(of_seeds - interaction, 0), of_clusters=max(of_clusters, interaction),
                clusters_df=max(1 / (np.array(share) ** 2).sum() - 1, 1))


names = [f"{c:02}" for c in range(12)]
whole = moments(rows, names)
a, b = whole["of_seeds"], whole["of_clusters"]
cochran = (stats.t.isf(0.025, 2) * a + stats.t.isf(0.025, whole["clusters_df"]) * b) / (a + b)
welch = stats.t.isf(0.025, (a + b) ** 2 / (a ** 2 / 2 + b ** 2 / whole["clusters_df"]))
t = (cochran + welch) / 2
crossed = dict(rows=rows, **whole, low=whole["mean"] - t * np.sqrt(a + b), high=whole["mean"] + t * np.sqrt(a + b))

# The studentised bootstrap on one stratum (so that every resampling has it), with the same indices.
flat = [(s, 0, i, c, v, w) for (s, _, i, c, v, w) in rows]


def flat_means(rows):
    of = [[r for r in rows if r[0] == s] for s in range(3)]
    return np.array([np.average([r[4] for r in x], weights=[r[5] for r in x]) for x in of])


def resampled(copies):
    sample = [[r for r in flat if r[3] == name] for name in copies]
    whole = flat_means([r for part in sample for r in part])
    n = len(copies)
    u = np.array([whole - flat_means([r for j, part in enumerate(sample) if j != i for r in part]) for i in range(n)])
    free, middle = (n - 1) / n, u.mean(1)
    interaction = free * ((u - middle[:, None]) ** 2).sum() / 6
    return whole.mean(), np.sqrt(max(free * (middle ** 2).sum(), interaction))


mean = flat_means(flat).mean()
draws, ratios = [], []
for _ in range(199):
    clusters = rng.integers(12, size=12)
    again, error = resampled([names[c] for c in clusters])
    draws.append(clusters.tolist())
    ratios.append(abs((again - mean) / error))
ordered = np.sort(ratios)
bootstrap = dict(draws=draws, ratios=[ordered[i] for i in range(0, 199, 20)], q95=ordered[189], q90=ordered[179])

out = pathlib.Path(__file__).with_suffix(".json")
out.write_text(json.dumps(dict(seeds=seeds, quantiles=quantiles, p_values=p_values, power=power, wilson=wilson,
                               deviations=deviations,
                               mcnemar=exact, holm=holm, crossed=crossed, bootstrap=bootstrap)) + "\n")
