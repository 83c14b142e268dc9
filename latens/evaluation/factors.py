r"""How well single codes separate known factors: MIG, DCI, SAP, FactorVAE score, beta-VAE score, modularity, IRS and
InfoMEC.

Every function takes codes ``[n, d]`` (posterior means) and factors ``[n, f]`` (known causes of the rows). It returns
a number without unit, of which 1 is the best value unless stated otherwise. A factor is discrete if it has words, or at
most 100 different numbers with on average at least four rows each. Any other factor is cut at its quantiles into 20
levels with equal counts. Mutual information, in nats, is computed from the joint counts of a factor's levels and of 20
bins of equal width of a code.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latens.errors import InputError, require
from latens.evaluation.arrays import finite_rows, standardised
from latens.evaluation.shown import InNotebooks
from latens.tensors.randomness import Key

LEVELS, SHARED = 100, 4  # a discrete factor of numbers has at most 100 values, each shared by 4 rows on average
BINS = 20  # bins with equal counts for continuous factors, and with equal widths for codes
INACTIVE = 0.05  # the FactorVAE score leaves out codes with a variance below this


@dataclass(frozen=True, eq=False)
class DCI:
    """Disentanglement, completeness and informativeness; see :func:`dci`.

    Attributes:
        disentanglement, completeness, informativeness: the three figures.
        importance: ``[d, f]``, how much the predictor of each factor uses each code; columns sum to 1, or are 0 if no
            code helps.
        per_code: ``[d]``, the disentanglement of each code.
        per_factor: ``[f]``, the completeness of each factor.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray
    per_code: np.ndarray
    per_factor: np.ndarray


@dataclass(frozen=True)
class InfoMEC:
    """Modularity, explicitness and compactness; see :func:`infomec`. A figure is None if there is only one factor, or
    one active code, so that there is nothing to separate."""

    modularity: float | None
    explicitness: float
    compactness: float | None


@dataclass(frozen=True, eq=False)
class Disentanglement(InNotebooks):
    """All figures of codes compared with factors; see :func:`disentanglement`."""

    rows: int
    factors: tuple[str, ...]
    mig: float | None
    dci: DCI
    sap: float | None
    factor_vae_score: float | None
    beta_vae_score: float | None
    modularity: float | None
    irs: float
    infomec: InfoMEC

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON's types."""
        dci = {name: np.asarray(value).tolist() for name, value in vars(self.dci).items()}
        return asdict(self) | {"factors": list(self.factors), "dci": dci}

    def records(self) -> list[dict[str, Any]]:
        """One row with all scores."""
        names = ("disentanglement", "completeness", "informativeness")
        dci = {f"dci_{name}": getattr(self.dci, name) for name in names}
        return [super().records()[0] | dci | {f"infomec_{name}": v for name, v in vars(self.infomec).items()}]

    def lines(self) -> list[tuple[str, str]]:
        """(name, figure) pairs, as text."""
        dci, mec, f, d = self.dci, self.infomec, *reversed(self.dci.importance.shape)

        def of(*figures: float | None) -> str:
            return ", ".join("none" if figure is None else f"{figure:.3f}" for figure in figures)

        chance = "none  (it needs at least 2 factors)" if f < 2 else ""
        return [
            ("factors", f"{', '.join(self.factors)}  ({self.rows:,} rows, {d} codes)"),
            ("MIG", of(self.mig) if d > 1 else "none  (it needs at least 2 codes)"),
            ("DCI", f"{of(dci.disentanglement, dci.completeness, dci.informativeness)}  (disentanglement, "
             "completeness, informativeness)"),
            ("SAP", of(self.sap) if d > 1 else "none  (it needs at least 2 codes)"),
            ("FactorVAE score", chance or f"{of(self.factor_vae_score)}  (chance {1 / f:.3f})"),
            ("beta-VAE score", chance or f"{of(self.beta_vae_score)}  (chance {1 / f:.3f})"),
            ("modularity", chance or of(self.modularity)),
            ("IRS", of(self.irs)),
            ("InfoMEC", f"{of(mec.modularity, mec.explicitness, mec.compactness)}  (modularity, explicitness, "
             "compactness)"),
        ]  # fmt: skip


def disentanglement(
    codes: np.ndarray, factors: np.ndarray, names: Sequence[str] = (), *, predictor: str = "forest", seed: int = 0
) -> Disentanglement:
    """All scores of this file, with their default settings; a score is None if it needs more codes or factors.

    Args:
        codes: ``[n, d]``.
        factors: ``[n, f]``.
        names: the names of the factors; by default factor_0, factor_1, …
        predictor: the predictor of :func:`dci`.
        seed: the seed of the halves, the votes and the forest.

    Raises:
        InputError: as :func:`mig` does.
    """
    codes, levels = _checked(codes, factors, names)
    several, pairs = codes.shape[1] > 1, levels.shape[1] > 1
    found = tuple(names) or tuple(f"factor_{k}" for k in range(levels.shape[1]))
    return Disentanglement(
        len(codes), found, mig(codes, factors) if several else None,
        dci(codes, factors, predictor=predictor, seed=seed), sap(codes, factors, seed=seed) if several else None,
        factor_vae_score(codes, factors, seed=seed) if pairs else None,
        beta_vae_score(codes, factors, seed=seed) if pairs else None,
        modularity(codes, factors) if pairs else None, irs(codes, factors), infomec(codes, factors, seed=seed),
    )  # fmt: skip


# Mutual information


def mig(codes: np.ndarray, factors: np.ndarray) -> float:
    r"""The mutual information gap (Chen et al. 2018), normalised by the entropy of each factor:

    .. math:: \frac1f \sum_k \frac1{H(v_k)} \Big(I(z_{j(k)}; v_k) - \max_{j \ne j(k)} I(z_j; v_k)\Big), \quad
              j(k) = \arg\max_j I(z_j; v_k)

    It is 1 if each factor is a function of one code and no other code carries information about it, and 0 if the two
    best codes carry the same amount.

    Args:
        codes: ``[n, d]``, finite, with d at least 2.
        factors: ``[n, f]`` numbers or words, each with at least two values.

    Raises:
        InputError: factors have another length than the codes, a single value, or gaps; codes are not finite, or
            fewer than two.

    >>> codes = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> round(mig(codes, codes), 6), round(mig(codes[:, [0, 0]], codes[:, :1]), 6)
    (1.0, 0.0)
    """
    codes, levels = _checked(codes, factors)
    _require_codes(codes, "MIG")
    known = np.sort(mutual_information(codes, levels), 0)
    return float(np.mean((known[-1] - known[-2]) / _entropies(levels)))


def modularity(codes: np.ndarray, factors: np.ndarray) -> float:
    r"""Whether each code carries information about a single factor (Ridgeway & Mozer 2018), the mean over codes of

    .. math:: 1 - \frac{\sum_{k \ne k(j)} I(z_j; v_k)^2}{(f - 1) \max_k I(z_j; v_k)^2}

    where k(j) is the factor about which code j carries most information. A code without information counts 0 (Locatello
    et al. 2019). Several codes may carry information about the same factor.

    Args:
        codes: ``[n, d]``.
        factors: ``[n, f]``, f at least 2.

    Raises:
        InputError: as :func:`mig` does, or there are fewer than two factors.
    """
    codes, levels = _checked(codes, factors)
    _require_factors(levels, "modularity")
    square = mutual_information(codes, levels) ** 2
    largest = square.max(1)
    rest = (square.sum(1) - largest) / np.where(largest > 0, largest, 1) / (levels.shape[1] - 1)
    return float(np.mean(np.where(largest > 0, 1 - rest, 0.0)))


def mutual_information(codes: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """I(z_j; v_k) in nats, ``[d, f]``, for codes in 20 bins of equal width and levels ``[n, f]`` counted from 0."""
    return np.array([[_plug_in(cell, level) for level in levels.T] for cell in map(_binned, codes.T)])


def _plug_in(a: np.ndarray, b: np.ndarray) -> float:
    counts = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1)).reshape(a.max() + 1, -1)
    outer = counts.sum(1, keepdims=True) * counts.sum(0)
    seen = counts > 0
    ratio = counts[seen] * len(a) / outer[seen]  # exactly 1 if a and b are independent
    return max(0.0, float((counts[seen] / len(a) * np.log(ratio)).sum()))


def _entropies(levels: np.ndarray) -> np.ndarray:
    return np.array([_plug_in(level, level) for level in levels.T])


def _binned(code: np.ndarray) -> np.ndarray:
    """The bins of one code, 0 to 19, of equal width."""
    low, high = code.min(), code.max()
    if not high > low:
        return np.zeros(len(code), dtype=np.int64)
    return np.minimum(((code - low) / (high - low) * BINS).astype(np.int64), BINS - 1)


# Predictors of factors


def dci(codes: np.ndarray, factors: np.ndarray, *, predictor: str = "forest", seed: int = 0) -> DCI:
    r"""Disentanglement, completeness and informativeness (Eastwood & Williams 2018), from predictors of each factor.

    Let R_jk be the importance of code j for factor k, P_jk its share of row j and Q_jk its share of column k. Then

    .. math:: D = \sum_j \rho_j \Big(1 + \sum_k P_{jk} \log_f P_{jk}\Big), \quad
              \rho_j = \frac{\sum_k R_{jk}}{\sum_{jk} R_{jk}}, \quad
              C = \frac1f \sum_k \Big(1 + \sum_j Q_{jk} \log_d Q_{jk}\Big)

    Informativeness is the mean over factors of the accuracy on the other half of the rows: the share of levels that are
    predicted correctly (Locatello et al. 2019), or :math:`R^2` with ``"lasso"``. The mean in C gives all factors the
    same weight. With one factor D is 1, with one code C is 1.

    Args:
        codes: ``[n, d]``, n at least 4.
        factors: ``[n, f]``.
        predictor: "forest", 100 trees that see all codes at each split, with importances by impurity; "boosting",
            gradient boosted trees as in Locatello et al. (2019), which are slower; "lasso", linear regression with a
            cross-validated penalty, whose importances are absolute coefficients of standardised codes (numeric factors
            only).
        seed: the seed of the halves and the trees.

    Raises:
        InputError: as :func:`mig` does, the predictor is unknown, or a factor has words with "lasso".
    """
    require(predictor in PREDICTORS, "predictor", f"one of {', '.join(PREDICTORS)}", predictor)
    codes, levels = _checked(codes, factors)
    targets = _numbers(factors) if predictor == "lasso" else levels
    train, test = _halves(len(codes), seed)
    fits = [_predicted(predictor, codes, target, train, test, seed) for target in targets.T]
    importance = np.stack([weights for weights, _ in fits], 1)
    return dci_of_importance(importance, float(np.mean([right for _, right in fits])))


def dci_of_importance(importance: np.ndarray, informativeness: float = float("nan")) -> DCI:
    """:class:`DCI` of an importance matrix ``[d, f]``, not negative; see :func:`dci`. A code that no factor needs has
    weight 0; a factor that no code predicts has completeness 0."""
    d, f = importance.shape
    per_code, per_factor = 1 - _entropy_of_rows(importance, f), 1 - _entropy_of_rows(importance.T, d)
    total = importance.sum()
    weights = importance.sum(1) / total if total > 0 else np.zeros(d)
    return DCI(
        float(weights @ per_code), float(per_factor.mean()), informativeness, importance, per_code, per_factor
    )


def _entropy_of_rows(matrix: np.ndarray, base: int) -> np.ndarray:
    """The entropy of the shares in each row, in units of ln ``base``; 1 for a row of zeros."""
    total = matrix.sum(1, keepdims=True)
    share = np.divide(matrix, total, out=np.full(matrix.shape, 1 / base), where=total > 0)
    logs = np.log(share, out=np.zeros_like(share), where=share > 0)
    return -(share * logs).sum(1) / np.log(base) if base > 1 else np.zeros(len(matrix))


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(max_features=None, random_state=seed)


def _boosting(seed: int) -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(random_state=seed)


def _lasso(seed: int) -> Any:
    from sklearn.linear_model import LassoCV

    return LassoCV(cv=5, random_state=seed)


PREDICTORS = {"forest": _forest, "boosting": _boosting, "lasso": _lasso}


def _predicted(
    predictor: str, codes: np.ndarray, target: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """(importance of each code, ``[d]``, which sum to 1; how well the test rows are predicted)."""
    scaled = standardised(codes)
    fitted = PREDICTORS[predictor](seed)
    if len(np.unique(target[train])) < 2:
        return np.zeros(codes.shape[1]), float((target[test] == target[train][0]).mean())
    with _quiet():
        fitted.fit(scaled[train], target[train])
    weights = np.abs(fitted.coef_) if predictor == "lasso" else fitted.feature_importances_
    total = weights.sum()
    return weights / total if total > 0 else np.zeros_like(weights), float(fitted.score(scaled[test], target[test]))


def sap(codes: np.ndarray, factors: np.ndarray, *, seed: int = 0) -> float:
    r"""The separated attribute predictability (Kumar et al. 2018): for each factor, the gap between the two codes that
    predict it best, averaged over factors:

    .. math:: \frac1f \sum_k \Big(S_{j(k)k} - \max_{j \ne j(k)} S_{jk}\Big)

    For a discrete factor, S_jk is the accuracy on the other half of the rows of a linear support vector machine that
    sees only code j (C = 0.01, levels weighted equally; Locatello et al. 2019). For a continuous factor, it is the
    squared correlation over all rows. It is 0 for a code that does not vary. A linear machine can separate the lowest
    and the highest level along a code, but few levels in between; so a factor with many levels has a score well below
    1, even if one code orders them.

    Args:
        codes: ``[n, d]``, n at least 4, d at least 2.
        factors: ``[n, f]``; which factors are continuous is defined at the top of this file.
        seed: the seed of the halves.

    Raises:
        InputError: as :func:`mig` does.
    """
    codes, levels = _checked(codes, factors)
    _require_codes(codes, "SAP")
    train, test = _halves(len(codes), seed)
    found = np.zeros((codes.shape[1], levels.shape[1]))
    for k, factor in enumerate(_columns(factors)):
        for j, code in enumerate(codes.T):
            if code.std() <= 1e-12:
                continue
            if _is_continuous(factor):
                found[j, k] = np.corrcoef(code, factor)[0, 1] ** 2
            else:
                found[j, k] = _separated(code[:, None], levels[:, k], train, test)
    best = np.sort(found, 0)
    return float(np.mean(best[-1] - best[-2]))


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings about convergence and many levels: the figure describes the predictor as it was found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _separated(code: np.ndarray, level: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    from sklearn.svm import LinearSVC

    if len(np.unique(level[train])) < 2:
        return float((level[test] == level[train][0]).mean())
    with _quiet():
        machine = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(code[train], level[train])
    return float(machine.score(code[test], level[test]))


# Batches of rows that share one factor


def batches(levels: np.ndarray, count: int, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(the factor that each batch shares ``[count]``; its rows ``[count, size]``). The factor is random, and its level
    is the level of a random row. The rows of the batch are drawn with replacement from the rows with that level."""
    order = [np.argsort(level, kind="stable") for level in levels.T]
    ends = [np.cumsum(np.bincount(level)) for level in levels.T]
    shared = rng.integers(levels.shape[1], size=count)
    rows = np.empty((count, size), dtype=np.int64)
    for i, k in enumerate(shared):
        level = levels[rng.integers(len(levels)), k]
        start = ends[k][level - 1] if level else 0
        rows[i] = order[k][rng.integers(start, ends[k][level], size=size)]
    return shared, rows


def factor_vae_score(
    codes: np.ndarray, factors: np.ndarray, *, votes: int = 1600, size: int = 64, inactive: float = INACTIVE,
    seed: int = 0,
) -> float:  # fmt: skip
    r"""The score of Kim & Mnih (2018): whether the code that varies least in a batch shows which factor is shared.

    Each batch votes for the code j with the least variance, relative to the code's variance over all rows. A majority
    vote of the first half of the batches maps codes to factors; the score is the accuracy of this map on the second
    half. Codes whose variance is below ``inactive`` get no vote; without an active code the score is 0. The rows of a
    batch are drawn, with replacement, from all rows that share the level of one row. The chance level is 1 / f.

    Args:
        codes: ``[n, d]``, in units of the prior.
        factors: ``[n, f]``, f at least 2.
        votes, size: the number of batches, and of rows in each.
        inactive: the variance below which a code gets no vote.
        seed: the seed of the batches.

    Raises:
        InputError: as :func:`mig` does, or there are fewer than two factors, votes or rows in a batch.
    """
    codes, levels = _checked(codes, factors)
    _require_factors(levels, "the FactorVAE score")
    require(votes >= 2, "votes", "at least 2", votes)
    require(size >= 2, "size", "at least 2", size)
    variance = codes.var(0, ddof=1)
    active = np.flatnonzero(variance >= inactive)
    if not len(active):
        return 0.0
    shared, rows = batches(levels, votes, size, np.random.default_rng([seed, Key.FACTOR_VOTES]))
    least = np.array([np.argmin(codes[each][:, active].var(0, ddof=1) / variance[active]) for each in rows])
    counts = np.zeros((len(active), levels.shape[1]), dtype=np.int64)
    half = votes // 2
    np.add.at(counts, (least[:half], shared[:half]), 1)
    return float((counts.argmax(1)[least[half:]] == shared[half:]).mean())


def beta_vae_score(
    codes: np.ndarray, factors: np.ndarray, *, votes: int = 1600, size: int = 64, seed: int = 0
) -> float:  # fmt: skip
    r"""The score of Higgins et al. (2017): how often a linear classifier finds which factor is shared by pairs of rows.
    The classifier sees

    .. math:: \frac1L \sum_{l=1}^L |z_l - z'_l|

    over L pairs of rows that share the level of one factor (here all pairs of a batch share the same level, which is
    the level of a random row). It is a logistic regression, fitted to the first half of the batches and scored on the
    second half. The chance level is 1 / f.

    Args:
        codes: ``[n, d]``.
        factors: ``[n, f]``, f at least 2.
        votes, size: the number of batches, and of pairs L in each.
        seed: the seed of the batches.

    Raises:
        InputError: as :func:`mig` does, or there are fewer than two factors or votes, or the size is below 1.
    """
    from sklearn.linear_model import LogisticRegression

    codes, levels = _checked(codes, factors)
    _require_factors(levels, "the beta-VAE score")
    require(votes >= 2, "votes", "at least 2", votes)
    require(size >= 1, "size", "at least 1", size)
    shared, rows = batches(levels, votes, 2 * size, np.random.default_rng([seed, Key.FACTOR_VOTES]))
    features = np.stack([np.abs(codes[each[:size]] - codes[each[size:]]).mean(0) for each in rows])
    half = votes // 2
    if len(np.unique(shared[:half])) < 2:
        return float((shared[half:] == shared[0]).mean())
    unit = features.std(0)
    features = features / np.where(unit > 0, unit, 1)
    fitted = LogisticRegression(max_iter=1000).fit(features[:half], shared[:half])
    return float(fitted.score(features[half:], shared[half:]))


def irs(codes: np.ndarray, factors: np.ndarray, *, quantile: float = 0.99) -> float:
    r"""The interventional robustness score (Suter et al. 2019), computed as in Locatello et al. (2019).

    For the rows of one level of factor k, take the 99 % quantile of the distance of code j from its mean over these
    rows; E_jk is the mean of this quantile over levels. m_j is the largest distance of code j from its mean over all
    rows. The score is

    .. math:: \frac{\sum_j m_j \max_k (1 - E_{jk} / m_j)}{\sum_j m_j}

    It is 1 if each code is a function of one factor, whatever the other factors do. Codes that do not vary are left
    out; if no code varies, the score is 0.

    Args:
        codes: ``[n, d]``.
        factors: ``[n, f]``.
        quantile: the quantile of the distances.

    Raises:
        InputError: as :func:`mig` does.
    """
    codes, levels = _checked(codes, factors)
    codes = codes[:, codes.std(0) > 0]
    if not codes.shape[1]:
        return 0.0
    largest = np.abs(codes - codes.mean(0)).max(0)
    spread = np.stack([
        np.mean([_spread(codes[level == value], quantile) for value in np.unique(level)], 0) for level in levels.T
    ])  # fmt: skip
    return float(np.average((1 - spread / largest).max(0), weights=largest))


def _spread(codes: np.ndarray, quantile: float) -> np.ndarray:
    return np.quantile(np.abs(codes - codes.mean(0)), quantile, axis=0)


def infomec(codes: np.ndarray, factors: np.ndarray, *, neighbours: int = 10, seed: int = 0) -> InfoMEC:
    r"""Modularity, explicitness and compactness from information (Hsu et al. 2023).

    Let :math:`N_{jk} = I(z_j; v_k) / H(v_k)` for the d active codes (those with a range above a twentieth of the
    largest range). Then

    .. math:: M = \frac{\frac1d \sum_j \max_k N_{jk} / \sum_k N_{jk} - 1/f}{1 - 1/f}, \quad
              C = \frac{\frac1f \sum_k \max_j N_{jk} / \sum_j N_{jk} - 1/d}{1 - 1/d}

    .. math:: E = \frac1f \sum_k \Big(1 - \frac{H_V(v_k | z)}{\ln |v_k|}\Big)

    :math:`H_V(v | z)` is the cross-entropy, over the same rows, of logistic regression without a penalty and with
    levels weighted equally. If all codes are whole numbers, I is computed from counts, and the regression sees them
    one-hot; otherwise I is estimated by nearest neighbours (Ross 2014). A code or factor without information counts as
    if its shares were equal.

    Args:
        codes: ``[n, d]``.
        factors: ``[n, f]``.
        neighbours: the number of neighbours in the estimate of I.
        seed: the seed of the estimate, which breaks ties at random.

    Raises:
        InputError: as :func:`mig` does.
    """
    codes, levels = _checked(codes, factors)
    require(neighbours >= 1, "neighbours", "at least 1", neighbours)
    whole = bool((codes == np.round(codes)).all())
    extent = codes.max(0) - codes.min(0)
    active = codes[:, extent > (0 if whole else extent.max() / 20)]
    d, f = active.shape[1], levels.shape[1]
    if not d:
        return InfoMEC(None if f < 2 else 0.0, 0.0, None)
    known = _information(active, levels, whole, neighbours, seed) / _entropies(levels)
    return InfoMEC(_largest_share(known), _explicitness(active, levels, whole), _largest_share(known.T))


def _information(
    codes: np.ndarray, levels: np.ndarray, whole: bool, neighbours: int, seed: int
) -> np.ndarray:
    """I(z_j; v_k) in nats, ``[d, f]``."""
    if whole:
        cells = [np.unique(code, return_inverse=True)[1] for code in codes.T]
        return np.array([[_plug_in(cell, level) for level in levels.T] for cell in cells])
    from sklearn.feature_selection import mutual_info_classif

    with _quiet():
        return np.stack([
            mutual_info_classif(codes, level, discrete_features=False, n_neighbors=neighbours, random_state=seed)
            for level in levels.T
        ], 1)  # fmt: skip


def _largest_share(known: np.ndarray) -> float | None:
    """The mean over rows of the largest share, scaled so that equal shares give 0; None for a single column."""
    count = known.shape[1]
    if count < 2:
        return None
    total = known.sum(1)
    share = np.divide(known.max(1), total, out=np.full(len(known), 1 / count), where=total > 0)
    return float((share.mean() - 1 / count) / (1 - 1 / count))


def _explicitness(codes: np.ndarray, levels: np.ndarray, whole: bool) -> float:
    from sklearn.linear_model import LogisticRegression

    marks = [code[:, None] == np.unique(code) for code in codes.T] if whole else [standardised(codes)]
    features = np.concatenate(marks, 1).astype(np.float64)
    found = []
    for level in levels.T:
        with _quiet():  # without a penalty, the loss of separable levels has no minimum
            fitted = LogisticRegression(C=np.inf, class_weight="balanced").fit(features, level)
        p = fitted.predict_proba(features)[np.arange(len(level)), level]
        found.append(1 + np.log(np.maximum(p, np.finfo(float).eps)).mean() / np.log(level.max() + 1))
    return float(np.mean(found))


# Checks of codes and factors


def _checked(codes: np.ndarray, factors: np.ndarray, names: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """(codes ``[n, d]`` float64; the level of each factor ``[n, f]``, whole numbers from 0)."""
    codes, columns = finite_rows(codes, "codes"), _columns(factors)
    if not columns:
        raise InputError("there are no factors", "give at least one column of factors")
    if len(columns[0]) != len(codes):
        raise InputError(f"factors have {len(columns[0]):,} rows, but codes have {len(codes):,}",
                         "give the same rows of both")  # fmt: skip
    if len(codes) < 4:
        raise InputError(f"there are {len(codes)} rows of codes and factors", "give at least 4")
    called = list(names) or [f"factor {k} (counted from 0)" for k in range(len(columns))]
    if len(called) != len(columns):
        raise InputError(f"there are {len(called)} names and {len(columns)} factors", "give one name for each factor")
    return codes, np.stack([_levels(column, name) for column, name in zip(columns, called)], 1)


def _columns(factors: np.ndarray) -> list[np.ndarray]:
    """The columns of factors, ``[n]`` each, as numbers or text."""
    values = np.asarray(factors)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2:
        raise InputError(f"factors must be rows [n, f], got an array of shape {list(values.shape)}")
    return [_numbers_or_words(column) for column in values.T]


def _numbers_or_words(column: np.ndarray) -> np.ndarray:
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError):
        return np.array(["" if value is None else str(value) for value in column.tolist()])


def _numbers(factors: np.ndarray) -> np.ndarray:
    """Standardised factors ``[n, f]``; ``InputError`` for words."""
    columns = _columns(factors)
    for k, column in enumerate(columns):
        if column.dtype.kind == "U":
            raise InputError(f"factor {k} (counted from 0) has words", "use the predictor forest or boosting")
    return standardised(np.stack(columns, 1))


def _is_continuous(column: np.ndarray) -> bool:
    return column.dtype.kind == "f" and len(np.unique(column)) > max(2, min(LEVELS, len(column) // SHARED))


def _levels(column: np.ndarray, name: str) -> np.ndarray:
    missing = column == "" if column.dtype.kind == "U" else ~np.isfinite(column)
    if missing.any():
        row = int(missing.argmax())
        raise InputError(f"{name} has no value in row {row} (counted from 0)", "fill it, or leave the row out")
    if _is_continuous(column):
        bins = max(2, min(BINS, len(column) // SHARED))
        inner = np.quantile(column, np.arange(1, bins) / bins)
        column = np.searchsorted(inner, column, "right")
    values, codes = np.unique(column, return_inverse=True)
    if len(values) == len(column) > 2:
        raise InputError(f"{name} has a different word in every row", "leave it out, or give rows that share values")
    if len(values) < 2:
        raise InputError(f"{name} is {values[0]} in all rows", "leave it out, or give rows that differ")
    return codes.astype(np.int64)


def _require_codes(codes: np.ndarray, name: str) -> None:
    if codes.shape[1] < 2:
        what = f"{name} compares the two best dimensions of codes, but these codes have only one"
        raise InputError(what, "give at least 2")


def _require_factors(levels: np.ndarray, name: str) -> None:
    if levels.shape[1] < 2:
        raise InputError(f"{name} tells factors apart, but there is only one", "give at least 2 factors")


def _halves(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The row numbers of two random halves."""
    order = np.random.default_rng([seed, Key.HALVES]).permutation(rows)
    return order[: rows // 2], order[rows // 2 :]
