"""Laws of models with classes and codes: weights, the exact sum over classes, learning with few labels, gaps in a
file."""

from __future__ import annotations

from pathlib import Path

import laws
import numpy as np
import pytest
import torch
from commanding import done, figures, refused
from laws import Z, t
from scipy import stats
from sklearn.datasets import load_digits
from torch import nn

import latens
from latens import conditionals, models, objectives, priors, recipes
from latens.data import infer
from latens.recipes import choices

D, Q, Y = 4, 2, 3
X, W, B, S2 = laws.toy(6, D, Q, seed=21)
SHIFTS = np.random.default_rng(1).normal(size=(Y, D))
GIVEN = np.array([np.nan, 1.0, np.nan, 0.0, 2.0, np.nan])
MEAN, COV = laws.posterior(X, W, B, S2)
V = np.linalg.inv(W.T @ W + S2 * np.eye(Q)) @ W.T
LOG_PXY = np.stack([laws.gaussian_log_likelihood(X, W, B + s, S2) for s in SHIFTS], 1)  # ln p(x|y)


class OfClass(nn.Module):
    """A linear map and a shift by the class, from (input, c)."""

    def __init__(self, weight, bias, shifts):
        super().__init__()
        self.weight, self.bias, self.shifts = t(weight), t(bias), t(shifts)

    def forward(self, given, c):
        return given @ self.weight.T + self.bias + self.shifts[c["label"].squeeze(-1).long()]


def model() -> models.Classified:
    """p(x|y, z) = N(W z + b + shift_y, S2 I); q(z|x, y) exact in the mean, too wide; a poor q(y|x)."""
    raw = laws.raw(1.6 * np.diag(COV), 1e-8)
    to_codes = OfClass(
        np.vstack([V, np.zeros((Q, D))]), np.concatenate([-V @ B, raw]), np.hstack([-SHIFTS @ V.T, np.zeros((Y, Q))])
    )
    classifier = conditionals.Features(laws.affine(0.3 * SHIFTS, np.array([0.2, 0.0, -0.1])))
    found = models.Classified(
        priors.StandardNormal(Q), conditionals.DiagonalNormalPosterior(to_codes, ("label",)),
        conditionals.NormalLikelihood(OfClass(W, B, SHIFTS), variance=S2, reads=("label",)), classifier, Y,
    )  # fmt: skip
    return found.double()


def test_the_mean_weight_is_p_of_x_or_if_the_class_is_known_p_of_x_given_it() -> None:
    """6 rows, of which three have a class; 200,000 draws, |z| < 4.5 (false alarm rate 4e-5)."""
    truth = np.log(np.exp(LOG_PXY).mean(1))
    known = ~np.isnan(GIVEN)
    truth[known] = LOG_PXY[known, GIVEN[known].astype(int)]
    torch.manual_seed(1)
    with torch.no_grad():
        draw = model().draw(t(X), 200_000, {"label": t(GIVEN)})
    assert np.abs(laws.z_score(np.exp(draw.log_w.numpy() - truth), 1.0)).max() < Z
    assert (draw.codes[..., Q:].sum(-1) == 1).all() and draw.codes.shape[-1] == Q + Y
    shares = draw.codes[..., Q:].mean(0).numpy()
    assert shares[known] == pytest.approx(np.eye(Y)[GIVEN[known].astype(int)])
    q = model().classify(t(X)).detach().numpy()
    assert np.abs((shares - q)[~known] / np.sqrt(q * (1 - q) / 2e5)[~known]).max() < Z


def test_the_bound_is_the_naive_sum_over_classes() -> None:
    found, objective = model(), objectives.SemiSupervisedELBO(classification=3.0, samples=2)
    torch.manual_seed(2)
    draw = objective.draw(found, t(X), {"label": t(GIVEN)})
    bound = objective.bound(draw).detach().numpy()
    z, q = draw.each.z.detach().numpy(), found.classify(t(X)).detach().numpy()
    total = 0.0
    for i in range(len(X)):
        each = []
        for y in range(Y):
            log_px = np.mean([stats.norm(W @ z[k, y, i] + B + SHIFTS[y], S2**0.5).logpdf(X[i]).sum() for k in range(2)])
            mean = V @ (X[i] - B - SHIFTS[y])
            each.append(log_px - laws.gaussian_kl(mean, np.diag(1.6 * np.diag(COV)), np.zeros(Q), np.eye(Q)))
        if np.isnan(GIVEN[i]):
            expected = sum(q[i, y] * (each[y] - np.log(Y) - np.log(q[i, y])) for y in range(Y))
            total += expected
        else:
            y = int(GIVEN[i])
            expected = each[y]
            total += expected + 3.0 * np.log(q[i, y])
        assert bound[i] == pytest.approx(expected, abs=1e-9)
    assert objective.losses(found, t(X), draw)["model"].item() == pytest.approx(-total / len(X), abs=1e-9)


def test_the_likelihood_of_a_draw_is_that_of_the_drawn_class() -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        draw = model().draw(t(X), 5, {"label": t(GIVEN)})
    z, y = draw.z[0].numpy(), draw.z[1].argmax(-1).numpy()
    expected = stats.norm(z @ W.T + B + SHIFTS[y], S2**0.5).logpdf(X).sum(-1)
    assert draw.px.log_prob(t(X)).numpy() == pytest.approx(expected, abs=1e-9)
    assert draw.log_px.numpy() == pytest.approx(expected, abs=1e-9)


def test_codes_hold_the_class_and_decode_with_it() -> None:
    found = model()
    q = found.encode(t(X), {"label": t(GIVEN)})
    mean = q.mean.detach()
    best = np.where(np.isnan(GIVEN), found.classify(t(X)).argmax(-1).numpy(), GIVEN).astype(int)
    expected = B + SHIFTS[best] + mean[:, :Q].numpy() @ W.T
    assert found.decode(mean).mean.detach().numpy() == pytest.approx(expected, abs=1e-9)
    assert found.decode(mean.expand(2, 6, -1)).mean[1].detach().numpy() == pytest.approx(expected, abs=1e-9)
    assert q.sample((3,)).shape == (3, 6, Q + Y)
    torch.manual_seed(0)
    means = found.sample(30_000, {"label": torch.full((30_000,), 2.0).double()}).numpy()
    assert np.abs(laws.z_score(means, B + SHIFTS[2])).max() < Z


def test_few_labels_classify_digits() -> None:
    """With a tenth of the labels and eight epochs, far more of the hidden labels are right than by chance."""
    digits = load_digits()
    x = torch.as_tensor(digits.data.reshape(-1, 1, 8, 8).astype("uint8"))
    hidden = np.random.default_rng(0).random(len(x)) > 0.1
    label = np.where(hidden, np.nan, digits.target).astype("float32")
    column = latens.schema.Column("label", "categorical", "int64", "categorical", tuple(range(10)), missing=0.9)
    info = choices.DataInfo(infer(x[:, 0].numpy()), len(x), x, (column,), {"label": torch.as_tensor(label)})
    found, objective = recipes.Recipe("m2").build(info)
    latens.train(found, objective, x, c={"label": label}, epochs=8, batch_size=128, learning_rate=0.003)
    with torch.no_grad():
        right = found.classify(x).argmax(-1).numpy() == digits.target
    assert right[hidden].mean() > 0.75


def test_a_label_column_of_a_file_may_have_gaps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 120)
    rows = [f"{k + 0.2 * a:.3f},{-k + 0.3 * b:.3f},{'' if i % 3 else 'abc'[k]}" for i, (k, a, b) in
            enumerate(zip(kind, rng.normal(size=120), rng.normal(size=120)))]  # fmt: skip
    Path("rows.csv").write_text("u,v,kind\n" + "\n".join(rows) + "\n")
    words = ("fit", "rows.csv", "--out", "run", "--condition", "kind", "--epochs", "2", "--seed", "0")
    assert "which takes gaps" in refused(*words, "--recipe", "vae")
    done(*words, "--recipe", "m2")
    page = Path("run/report.html").read_text("utf-8")
    assert "missing" in page and str(np.iinfo(np.int64).min) not in page
    assert np.isfinite(figures("evaluate", "run", "rows.csv", "--k", "5")["nll"])
    done("encode", "run", "rows.csv", "--out", "codes.npy")
    codes = np.load("codes.npy")
    assert codes[:, -3:].sum(1) == pytest.approx(1.0, abs=1e-5) and (codes[::3, -3:].max(1) == 1).all()
    done("sample", "run", "-n", "5", "--out", "new.csv", "--set", "kind=b")


def test_impossible_requests_are_refused() -> None:
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    info = choices.DataInfo(infer(x), 20, torch.as_tensor(x))
    number = latens.schema.Column("age", "continuous", "double", "normal")
    for name, options, more, word in (
        ("cvae", {}, (), "--condition"), ("m2", {"classes": 1}, (), "classes"),
        ("m2", {"variance": "optimal"}, (), "m2"),
        ("m2", {}, (number,), "levels"),
    ):  # fmt: skip
        given = choices.DataInfo(info.schema, 20, info.sample, more, {c.name: torch.zeros(20) for c in more} or None)
        with pytest.raises(latens.InputError, match=word):
            recipes.Recipe(name, **options).build(given)
