"""Figures for notebooks: they take every kind of rows, draw on the given axes and show the right numbers; results as
frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from parts import Encoding

import latens
from latens import InputError, evaluation
from latens.data.rows import Asked, rows_of
from latens.recipes import Recipe
from latens.report import charts
from latens.runs.comparing import Comparison
from latens.runs.fitting import fit_recipe
from latens.runs.record import Run
from latens.training import Settings

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.patches import PathPatch

plot = latens.plot
RNG = np.random.default_rng(0)
Z = RNG.normal(size=(160, 2))


def _table() -> pd.DataFrame:
    return pd.DataFrame({
        "a $x$ b": Z[:, 0] + 0.1 * RNG.normal(size=160), "size": np.exp(Z[:, 1]).round(2),
        "kind": np.array(["red", "green", "blue"])[np.digitize(Z[:, 0], [-0.5, 0.5])],
        "when": pd.Timestamp("2021-03-01") + pd.to_timedelta(RNG.integers(0, 200, 160), "D"),
        "gaps": np.where(RNG.random(160) < 0.3, np.nan, Z[:, 1].round(1)),
    })  # fmt: skip


ROWS: dict[str, Any] = {
    "numbers": Z @ RNG.normal(size=(2, 5)),
    "counts": RNG.poisson(np.exp(Z @ RNG.normal(size=(2, 6)) * 0.4 + 2)),
    "grey": RNG.integers(0, 17, size=(160, 6, 6)).astype(np.uint8),
    "colour": RNG.integers(0, 255, size=(160, 6, 6, 3)).astype(np.uint8),
    "table": _table(),
    "levels": pd.DataFrame({"x": np.where(Z[:, 0] > 0, "yes", "no"), "y": np.where(Z[:, 1] > 0, "up", "down")}),
}
SEQUENCES = np.sin(np.linspace(0, 6, 12)[None, :, None] + RNG.uniform(0, 6, (60, 1, 5))).astype(np.float32)
FIGURES = ("reconstructions", "samples", "latent_map", "traversals", "interpolation", "rates", "calibration", "columns")


@pytest.fixture(scope="module")
def fitted() -> Callable[[str], latens.VAE]:
    found: dict[str, latens.VAE] = {}

    def fit(name: str) -> latens.VAE:
        if name not in found:
            found[name] = latens.VAE(latent_dim=2, epochs=20, random_state=0).fit(ROWS[name])
        return found[name]

    return fit


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def drawn(ax: Any) -> int:
    """The marks on axes and their insets: lines, patches, images, texts."""
    return sum(len(a.lines) + len(a.patches) + len(a.images) + len(a.texts) for a in (ax, *ax.child_axes))


@pytest.mark.parametrize("name", ROWS)
def test_every_chart_of_every_kind_of_rows_is_drawn_on_the_given_axes(name: str, fitted: Any) -> None:
    vae, rows = fitted(name), ROWS[name]
    for figure in FIGURES:
        more: Any = {"calibration": {"reference": rows}, "traversals": {"dimensions": [1, 0]}}.get(figure, {})
        if figure == "columns" and name in ("grey", "colour"):
            with pytest.raises(latens.InputError, match="the rows are images, which have no columns"):
                plot.columns(vae, rows)
            continue
        state, look = torch.get_rng_state(), dict(matplotlib.rcParams)
        picture, ax = pyplot.subplots()
        assert getattr(plot, figure)(vae, rows, ax=ax, **more) is ax
        assert drawn(ax) > 0, figure
        picture.canvas.draw()
        assert torch.equal(state, torch.get_rng_state()) and look == dict(matplotlib.rcParams)
        pyplot.close(picture)
    assert drawn(plot.training(vae)) == 3 and drawn(plot.samples(vae)) > 0


def test_runs_folders_and_estimators_draw_the_same(fitted: Any, tmp_path: Path) -> None:
    vae = fitted("numbers")
    vae.save(tmp_path / "run")
    for source in (vae, vae.run_, tmp_path / "run", str(tmp_path / "run")):
        line = plot.training(source, term="rate").lines[0]
        assert np.array_equal(line.get_ydata(), [row["train_rate"] for row in vae.run_.history])


def test_sequences_are_drawn_as_lines() -> None:
    run = fit_recipe(rows_of(SEQUENCES, asked=Asked(layout="TC")), Recipe("vae"), Settings(epochs=2),
                     options={"latent_dim": 2})  # fmt: skip
    ax = plot.reconstructions(run, SEQUENCES)
    assert len(ax.child_axes) == 12
    assert np.allclose(ax.child_axes[0].lines[0].get_ydata(), SEQUENCES[0, :, 0])
    assert drawn(plot.samples(run, SEQUENCES)) and drawn(plot.columns(run, SEQUENCES))
    assert drawn(plot.interpolation(run, SEQUENCES)) and drawn(plot.traversals(run, SEQUENCES, dimensions=[0]))


def vertices(ax: Any) -> np.ndarray:
    """The dots of axes, ``[N, 2]``."""
    return np.concatenate([patch.get_path().vertices[::2] for patch in ax.patches if isinstance(patch, PathPatch)])


def test_arrays_are_drawn_as_they_are() -> None:
    x = ROWS["numbers"]
    again = 0.9 * x
    ax = plot.reconstructions(x, again)
    assert len(ax.child_axes) == 5
    inside = vertices(ax.child_axes[2])
    assert len(inside) >= 0.97 * len(x) and np.allclose(inside[:, 1], 0.9 * inside[:, 0])
    assert np.abs(inside[:, :1] - x[:, 2]).min(1).max() < 1e-6
    codes = vertices(plot.latent_map(Z))
    assert np.allclose(np.sort(codes, 0), np.sort(Z, 0))
    heights = [bar.get_height() for bar in plot.rates([0.5, 2.0, 0.001]).patches]
    assert heights == [2.0, 0.5, 0.001]
    p = RNG.random(300)
    step = plot.calibration(p).lines[-1]
    assert all(share == np.mean(p <= t) for t, share in zip(step.get_xdata()[1:-1], step.get_ydata()[1:-1]))
    line = plot.rate_distortion([3.0, 1.0], [5.0, 9.0], names=["a", "b"]).lines[-1]
    assert line.get_xydata().tolist() == [[1.0, 9.0], [3.0, 5.0]]
    frame = pd.DataFrame({"epoch": [1, 2], "train_bound": [-3.0, -2.0]})
    assert plot.training(frame, term="bound").lines[0].get_ydata().tolist() == [-3.0, -2.0]
    walk = np.arange(3 * 4 * 36).reshape(3, 4, 6, 6) % 255
    assert len(plot.traversals(walk.astype(np.uint8)).get_yticklabels()) == 3


def test_images_appear_at_their_positions() -> None:
    images = ROWS["grey"][:5]
    shown = np.asarray(plot.samples(images).images[0].get_array())
    whole = images.astype(float) / images.max() * 255
    assert np.array_equal(shown[:6, 7:13, 0], np.rint(whole[1])) and shown.shape[:2] == (6, 34)
    assert (shown[:, 6, -1] == 0).all() and (shown[:, :6, -1] == 255).all()


def test_columns_have_the_requested_order(fitted: Any) -> None:
    ax = plot.columns(fitted("table"), ROWS["table"], names=["kind", "a $x$ b"])
    assert [inset.get_title(loc="left").split("\n")[0] for inset in ax.child_axes] == ["kind", "a $x$ b"]
    shares = [bar.get_width() for bar in ax.child_axes[0].patches[:3]]
    levels = ROWS["table"]["kind"].value_counts(normalize=True)
    assert np.allclose(shares, [levels[name] for name in sorted(levels.index)])


def test_the_share_of_uniform_values_within_the_band_is_that_of_massart() -> None:
    """The band holds at least 95 % of uniform samples; more than 9 of 60 samples leave it with probability 0.002."""
    rng, left = np.random.default_rng(1), 0
    for _ in range(60):
        values = rng.random(50)
        figure, ax = pyplot.subplots()
        charts.cumulative(values, "").on(ax)
        low, high = (np.array(v) for v in zip(*[(p.vertices[:, 1].min(), p.vertices[:, 1].max())
                                                for p in ax.collections[0].get_paths()]))  # fmt: skip
        assert low.min() == 0 and high.max() == 1
        band = np.sqrt(np.log(40) / 100)
        ordered = np.sort(values)
        left += max(np.abs(ordered - np.arange(1, 51) / 50).max(), np.abs(ordered - np.arange(50) / 50).max()) > band
        pyplot.close(figure)
    assert left <= 9


WRONG: list[tuple[str, Callable[[latens.VAE], Any], str]] = [
    ("no rows", lambda v: plot.reconstructions(v), "reconstructions need rows: pass X"),
    ("no rows", lambda v: plot.latent_map(v), "maps of codes need rows: pass X"),
    ("no axes", lambda v: plot.samples(v, ax=3), "ax must be axes of matplotlib, got int: pass"),
    ("count", lambda v: plot.samples(v, rows=0), "rows must be a whole number from 1, got 0"),
    ("other rows", lambda v: plot.latent_map(v, np.ones((4, 3))), "features"),
    ("labels", lambda v: plot.latent_map(v, ROWS["numbers"], labels=[1, 2]), "labels must be one per row"),
    ("dimension", lambda v: plot.traversals(v, ROWS["numbers"], dimensions=[7]), "whole numbers from 0 to 1, got 7"),
    ("pair", lambda v: plot.interpolation(v, ROWS["numbers"], rows=(0, 160)), "two numbers from 0 to 159"),
    ("pair", lambda v: plot.interpolation(v, ROWS["numbers"], rows=3), "rows must be two numbers"),
    ("term", lambda v: plot.training(v, term="loss"), "term must be one of bound, rate, distortion, got 'loss'"),
    ("names", lambda v: plot.columns(v, ROWS["numbers"], names=["q"]), "names are|there is no column 'q'"),
    ("calibration", lambda v: plot.calibration(v, ROWS["numbers"]), "no scores of held-out rows.*pass reference"),
    ("p-values", lambda v: plot.calibration([0.5, 1.5]), r"p-values must lie in \[0, 1\]"),
    ("words", lambda v: plot.rates(["a"]), "rates must be numbers"),
    ("empty", lambda v: plot.rates([]), r"rates must have shape \[N\], got \[0\]: pass"),
    ("folder", lambda v: plot.training("nowhere"), "nowhere does not exist: give the folder of a run"),
    ("unfitted", lambda v: plot.rates(latens.VAE(), ROWS["numbers"]), "the estimator is not fitted: call fit"),
    ("lengths", lambda v: plot.rate_distortion([1.0], [1.0, 2.0]), "1 rates and 2 distortions: give one distortion"),
    ("sweep", lambda v: plot.rate_distortion("nowhere"), "nowhere holds no finished sweep: give"),
    ("shapes", lambda v: plot.reconstructions(np.ones((3, 2)), np.ones((3, 4))), "reconstructions have shape"),
    ("history", lambda v: plot.training([{"loss": 1}]), "a history has rows with an 'epoch'"),
    ("nothing", lambda v: plot.rate_distortion(v), "rates and distortions cannot be read from VAE: pass a sweep"),
]


@pytest.mark.parametrize("call, said", [pytest.param(*each[1:], id=f"{each[0]} {i}") for i, each in enumerate(WRONG)])
def test_wrong_input_is_reported_in_one_sentence(call: Callable[[latens.VAE], Any], said: str, fitted: Any) -> None:
    before = pyplot.get_fignums()
    with pytest.raises(ValueError, match=said) as error:
        call(fitted("numbers"))
    assert "\n" not in str(error.value) or "features" in said
    assert pyplot.get_fignums() == before


def test_an_autoencoder_says_what_it_lacks() -> None:
    ae = latens.VAE(recipe="ae", latent_dim=2, epochs=2, random_state=0).fit(ROWS["numbers"])
    assert drawn(plot.reconstructions(ae, ROWS["numbers"])) and drawn(plot.training(ae))
    for call in (plot.samples, plot.rates):
        with pytest.raises(latens.InputError, match=r"an autoencoder has no prior|has no rate"):
            call(ae, ROWS["numbers"])


# Results as HTML and frames


def test_results_are_frames_and_html(fitted: Any) -> None:
    vae = fitted("numbers")
    figures = vae.evaluate(ROWS["numbers"], k=5)
    frame = figures.to_frame()
    assert len(frame) == 1 and frame["elbo"][0] == figures.elbo and frame["rows"][0] == 160
    run: Run = vae.run_
    assert run.to_frame()["train_bound"].tolist() == [row["train_bound"] for row in run.history]
    labels = evaluation.evaluate_labels(Z, ROWS["numbers"], Z[:, 0] > 0)
    assert labels.to_frame()["representation"].tolist() == ["codes", "pca", "data"]
    assert labels.to_frame()["linear_probe"][0] == labels.scores["codes"].linear_probe
    dims = figures.collapse.to_frame()
    assert np.allclose(dims["rate"], figures.rate_per_dimension) and len(dims) == 2
    for each in (figures, run, labels, figures.collapse):
        page = each._repr_html_()
        assert page.count("<table>") == page.count("</table>") >= 1 and "<script" not in page
    run.data["origin"] = "<script>"
    assert "<script>" not in run._repr_html_()
    del run.data["origin"]
    assert Comparison([], [], np.ones(1), None)._repr_html_() == "<table><tbody></tbody></table>"


def test_without_pandas_a_frame_is_an_arrow_table(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from latens.evaluation.shown import frame_of

    monkeypatch.setitem(sys.modules, "pandas", None)
    assert frame_of([{"a": 1.0}, {"a": None}]).column("a").to_pylist() == [1.0, None]


def test_names_of_the_page_are_tooltips_and_escaped() -> None:
    names = ["<b>bold</b> and a name that is longer than eighteen letters", "$x$"]
    text = str(charts.heat(np.eye(2), names, names, "a matrix"))
    assert "<b>" not in text and "&lt;b&gt;bold" in text
    assert re.search(r"<title>&lt;b&gt;bold&lt;/b&gt; and a name that is longer than eighteen letters</title>", text)


def test_a_figure_that_needs_what_an_own_model_lacks_says_so():
    x = np.random.default_rng(0).normal(size=(60, 3)).astype("float32")
    run = latens.train(Encoding(), latens.objectives.ELBO(), x, epochs=2)
    for name in ("latent_map", "rates"):
        getattr(latens.plot, name)(run, x)
    latens.plot.training(run)
    lacks = dict.fromkeys(("reconstructions", "traversals", "interpolation"), "decode")
    lacks |= dict.fromkeys(("samples", "columns", "calibration"), "sample")
    for name, method in lacks.items():
        told = f"the model has no method {method}, which this figure needs: draw another figure"
        with pytest.raises(InputError, match=f"^{told}$"):
            getattr(latens.plot, name)(run, x)
    with pytest.raises(InputError, match=r"^the model has no method decode: define decode"):
        evaluation.evaluate(run.model, torch.from_numpy(x))
