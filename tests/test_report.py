"""The report is complete, self-contained, escaped and reproducible, and never crashes."""

from __future__ import annotations

import re
import shutil
import subprocess
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import latens
from latens import conditionals, evaluation, models, objectives, priors, report
from latens.data import infer, read
from latens.data.rows import Asked, Rows, rows_like, rows_of
from latens.evaluation import evaluate
from latens.evaluation.synthetic import kolmogorov_smirnov
from latens.recipes import Recipe
from latens.report import charts, figures, marginals, pixels, tables
from latens.report.groups import group
from latens.report.marginals import MarginalComparison
from latens.report.subject import Subject
from latens.runs.comparing import Comparison, compare
from latens.runs.fitting import fit_recipe
from latens.runs.record import Run
from latens.schema import Column, Schema, Table
from latens.training import Settings

KEYS = ("reconstructions", "samples", "map", "rate", "traversal", "interpolations", "training", "choices", "provenance")
QUICK = Settings(epochs=3)
NAMES = ("<script>alert(1)</script>", 'a "quoted" & name', "$x_1$", "Länge", "flag")


def fit(x: np.ndarray, recipe: str = "vae", names: tuple[str, ...] | None = None, **options: object) -> Run:
    run = fit_recipe(rows_of(x, names), Recipe(recipe), QUICK, options={"latent_dim": 3} | options)
    run.data["origin"] = "/data/<b>rows</b>.npy"
    return run


def table(rows: int = 240) -> np.ndarray:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(rows, 2))
    x = np.concatenate(
        [z @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(rows, 4)), rng.normal(size=(rows, 1)) > 0], 1
    )
    return x.astype(np.float32)


class Page(HTMLParser):
    """A parser that collects what a browser would load and the sections, and checks that tags balance."""

    def __init__(self, text: str):
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "srcset", "data", "action", "poster", "background") or name.endswith("href"):
                self.loads.append(value or "")
            assert not name.startswith("on"), f"a handler: {name}"


def check(text: str, left_out: tuple[str, ...] = ()) -> Page:
    """Check the laws of every page: all sections exist, nothing is loaded, no script, tags are closed, and only the
    sections ``left_out`` are replaced by notes."""
    page = Page(text)
    for key in KEYS:
        assert key in page.ids, key
        body = text.split(f'<section id="{key}"')[1].split("</section>")[0]
        empty = '<p class="note">' in body and not re.search(r"<svg|<img|<table|<li", body)
        assert empty == (key in left_out), (key, body[:600])
        assert "cannot be made for this model" not in body, body[:600]
    assert all(load.startswith(("data:", "#")) for load in page.loads), page.loads
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)
    for tag in ("section", "div", "figure", "svg", "g", "details", "table", "ul", "p", "main"):
        assert len(re.findall(rf"<{tag}(?: [^>]*)?(?<!/)>", text)) == text.count(f"</{tag}>"), tag
    sections = [i for i in page.ids if not i.endswith("-h")]
    assert all(f"#{link}" in page.loads for link in KEYS) and len([i for i in sections if i in KEYS]) == len(KEYS)
    return page


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    source = read("digits")
    assert source.labels is not None
    return source.x[:500], source.labels[:500]


@pytest.fixture(scope="module")
def image_run(digits: tuple[np.ndarray, np.ndarray]) -> Run:
    return fit(digits[0])


@pytest.fixture(scope="module")
def compared(digits: tuple[np.ndarray, np.ndarray]) -> Comparison:
    x, labels = digits
    return compare(x, infer(x), [1, 2], QUICK, labels=labels, k=5)


def test_a_report_of_images_is_complete_and_reproducible(
    image_run: Run, digits: tuple[np.ndarray, np.ndarray], compared: Comparison
) -> None:
    x, labels = digits
    assert image_run.schema is not None
    figures = evaluate(image_run.model, torch.from_numpy(image_run.schema.to_model(x[:100])), k=7)
    figures.warnings.append("1 of 3 latent dimensions <collapsed>")
    given: dict[str, Any] = {"labels": labels, "evaluation": figures, "comparison": compared}
    text = report.render(image_run, x, **given)
    page = check(text)
    assert "comparison" in page.ids
    assert "K\u00a0=\u00a07" in text and f"{figures.elbo:.2f}".replace("-", "−") in text
    assert "1 of 3 latent dimensions &lt;collapsed&gt;" in text and "<collapsed>" not in text
    assert "&lt;b&gt;rows&lt;/b&gt;.npy" in text and "<b>rows" not in text
    assert text.count('class="best"') >= 4 and "midpoint" in text
    assert compared.notes[0][:40] in text
    assert "best epoch" in text and image_run.data["fingerprint"] in text
    assert text == report.render(image_run, x, **given), "the page must be the same for the same run"
    assert len(text) < 2_000_000


def test_the_caller_is_left_as_it_was(image_run: Run, digits: tuple[np.ndarray, np.ndarray]) -> None:
    import matplotlib

    torch.manual_seed(5)
    settings, noise, training = dict(matplotlib.rcParams), torch.get_rng_state(), image_run.model.training
    report.render(image_run, digits[0][:20])
    assert dict(matplotlib.rcParams) == settings
    assert torch.equal(torch.get_rng_state(), noise) and image_run.model.training == training


def test_names_that_look_like_markup_are_escaped() -> None:
    run = fit(table(), names=NAMES)
    labels = np.array(["<i>one</i>", "two & three"])[(table()[:, 0] > 0).astype(int)]
    text = report.render(run, table(), labels=labels, title="<script>title</script>")
    check(text)
    assert "<script>" not in text and "<i>one" not in text and "two & three" not in text
    for name in ("&lt;script&gt;alert(1)", "a &quot;quoted&quot; &amp; name", "$x_1$", "Länge", "&lt;i&gt;one"):
        assert name in text, name
    assert "R²" in text


def test_an_autoencoder_says_why_it_has_no_rate() -> None:
    run = fit(table(), "ae")
    text = report.render(run, table())
    check(text, left_out=("rate",))
    assert "point-mass posterior" in text and "has no rate" in text
    head = text.split("<main>")[0]
    assert "ELBO" not in head and ">NLL<" not in head and "NaN" not in text and "nan " not in text


def test_a_report_without_data_leaves_out_what_needs_rows(image_run: Run) -> None:
    text = report.render(image_run, None)
    check(text, left_out=("reconstructions", "map", "rate", "traversal", "interpolations"))
    assert "needs data" in text
    table_run = fit(table(120), "ae")
    check(
        report.render(table_run, None),
        left_out=("reconstructions", "samples", "map", "rate", "traversal", "interpolations"),
    )


IMAGES: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "binary": (np.random.default_rng(1).random((60, 9, 4)) > 0.5, {}),
    "rgb, odd": (np.random.default_rng(2).integers(0, 256, (60, 7, 5, 3)).astype(np.uint8), {}),
    "rgba, channels first": (np.random.default_rng(3).integers(0, 256, (60, 4, 6, 9)).astype(np.uint8), {}),
    "two channels, any range": (np.random.default_rng(4).normal(500, 90, (60, 2, 5, 6)).astype(np.float32), {}),
    "a line of pixels": (np.random.default_rng(5).random((60, 1, 90)).astype(np.float32), {}),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_any_kind_have_a_page(name: str) -> None:
    x, options = IMAGES[name]
    run = fit(x, **options)
    text = report.render(run, x, labels=np.linspace(0, 1, len(x)))
    inactive = "No latent dimension is active" in text
    check(text, left_out=("traversal",) if inactive else ())


@pytest.mark.parametrize(("columns", "latent"), [(1, 1), (2, 2), (40, 3)])
def test_tables_of_any_width_have_a_page(columns: int, latent: int) -> None:
    x = np.random.default_rng(0).normal(size=(150, columns)).cumsum(1)
    text = report.render(fit(x, latent_dim=latent), x, labels=np.arange(150) % 14)
    check(text, left_out=("traversal",) if "No latent dimension is active" in text else ())
    assert ("12 of 40 columns are shown" in text) == (columns == 40)


def test_one_to_three_rows_have_a_page() -> None:
    run = fit(table())
    for rows in (1, 2, 3):
        text = report.render(run, table()[:rows])
        assert all(f'<section id="{key}"' in text for key in KEYS)


def test_a_model_of_user_parts_has_a_page() -> None:
    x = table()
    model = models.VAE(
        priors.StandardNormal(2),
        conditionals.FullNormalPosterior(nn.Linear(5, 5)),
        conditionals.NormalLikelihood(nn.Linear(2, 5)),
    )
    run = latens.train(model, objectives.ELBO(), x, epochs=3)
    text = report.render(run, x)
    check(text)
    assert "does not split by dimension" in text
    run.schema = None
    text = report.render(run, x)
    check(text, left_out=("reconstructions", "samples", "traversal", "interpolations"))
    assert "no schema" in text


class Bare(nn.Module):
    """A model that has parameters but no other part of the contract."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))


def test_a_model_that_can_do_nothing_still_gets_a_page() -> None:
    run = Run(Bare(), objectives.ELBO(), QUICK.settle(100), 100)
    text = report.render(run, np.zeros((10, 3), np.float32))
    assert all(f'<section id="{key}"' in text for key in KEYS)
    assert "cannot be made for this model" in text and "No key figures" in text


def test_what_does_not_fit_is_refused(image_run: Run, digits: tuple[np.ndarray, np.ndarray]) -> None:
    x, labels = digits
    with pytest.raises(latens.InputError, match="labels must be one per row"):
        report.render(image_run, x, labels=labels[:-1])
    with pytest.raises(latens.InputError, match="the data must be of shape"):
        report.render(image_run, x.reshape(len(x), -1))
    with pytest.raises(latens.InputError, match="have no rows"):
        report.render(image_run, x[:0])


def test_scores_and_collapse_have_their_place_and_every_table_scrolls(
    image_run: Run, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, labels = digits
    figures = evaluate(image_run.model, rows_like(x, image_run.schema).inside, k=0)  # type: ignore[arg-type]
    codes = np.random.default_rng(0).normal(size=(200, 3))
    factors = (codes[:, :2] > 0).astype(int)
    figures.scores = {
        "labels": evaluation.evaluate_labels(codes, codes, factors[:, 0]),
        "disentanglement": evaluation.disentanglement(codes, factors, ("<b>", "shape")),
    }
    text = report.render(image_run, x, labels=labels, evaluation=figures)
    check(text)
    scores = section(text, "scores")
    assert f"{figures.scores['labels'].scores['codes'].linear_probe:.1%}" in scores and "&lt;b&gt;" in scores
    assert f"{figures.scores['disentanglement'].mig:.3f}" in scores and scores.count("<svg") == 1
    assert figures.collapse is not None and figures.collapse.verdict in section(text, "rate")
    assert len(re.findall(r'<div class="tablebox[^>]*><table', text)) == text.count("<table") > 3


def test_a_written_page_is_the_rendered_page(
    image_run: Run, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    report.write(path, image_run, digits[0], labels=digits[1])
    assert path.read_text(encoding="utf-8") == report.render(image_run, digits[0], labels=digits[1])
    with pytest.raises(latens.InputError, match="does not exist"):
        report.write(tmp_path / "no" / "report.html", image_run, digits[0])


def test_pixels_follow_the_range_and_the_channels() -> None:
    schema = Schema((4, 2, 3), "CHW", "continuous", low=-10.0, high=30.0)
    x = np.full((1, 4, 2, 3), 10.0)
    x[:, 0], x[:, 1], x[:, 3] = -99.0, 30.0, np.nan
    shown = pixels.to_pixels(schema, x)
    assert shown.shape == (1, 2, 3, 3)
    assert (shown[..., 0] == 0).all() and (shown[..., 1] == 255).all() and (shown[..., 2] == 128).all()
    assert pixels.to_pixels(schema, x[:, :2]).shape == (1, 2, 3)
    assert pixels.to_pixels(schema, np.zeros((2, 3, 300, 200))).shape == (2, 64, 43, 3)
    levels = Schema((1, 1, 2), "HW", "levels", levels=17, dtype="int64", storage="uint8", high=3.0)
    assert pixels.to_pixels(levels, np.array([[[[0.0, 16.0]]]])).tolist() == [[[0, 255]]]
    user = np.arange(24).reshape(2, 2, 2, 3)
    assert np.array_equal(pixels.model_layout(Schema((3, 2, 2), "HWC", "continuous"), user), user.transpose(0, 3, 1, 2))


def test_labels_are_grouped_into_at_most_ten_names_or_ranges() -> None:
    kinds = group(np.array([0, 1, 1]), 3, ("no", "yes"))
    assert kinds is not None and kinds.names == ["no", "yes"] and kinds.index.tolist() == [0, 1, 1]
    ranges = group(np.arange(100.0), 100)
    assert ranges is not None and ranges.ordered and len(ranges.names) == 10 and ranges.index.max() == 9
    words = group([f"w{i % 15}" for i in range(60)], 60)
    assert words is not None and len(words.names) == 10 and words.names[-1] == "other (6 values)"
    assert group(None, 3) is None


# Tables of mixed columns


def mixed(rows: int = 300, seed: int = 0) -> Any:
    """An arrow table with a column of every kind, missing cells, and names that look like markup."""
    import pyarrow as pa

    rng = np.random.default_rng(seed)
    z, level = rng.normal(size=rows), rng.integers(0, 4, rows)
    holes = rng.random(rows) < 0.3
    columns: dict[str, Any] = {
        "id": [f"u{i:05d}" for i in range(rows)],
        "<b>size</b>": pa.array(170 + 10 * z + rng.normal(size=rows), mask=holes),
        "price": np.exp(6 + 1.5 * z + rng.normal(size=rows)).round(2),
        "day": np.datetime64("2020-01-01") + rng.integers(0, 900, rows).astype("timedelta64[D]"),
        "visits": rng.poisson(np.exp(3 + z)),
        "group": pa.array([f"<i>{'abcd'[k]}</i>" for k in level], mask=rng.random(rows) < 0.2),
        "flag": np.where(z + level > 1, "yes", "no"),
        "many": [f"level {k:02d}" for k in rng.integers(0, 15, rows)],
        "always": np.full(rows, 7),
        "empty": pa.nulls(rows, pa.float64()),
    }
    return pa.table(
        {name: values if isinstance(values, pa.Array) else pa.array(values) for name, values in columns.items()}
    )


def fit_rows(rows: Rows, recipe: str = "vae", **options: object) -> Run:
    return fit_recipe(rows, Recipe(recipe), QUICK, options={"latent_dim": 3} | options)


def section(text: str, key: str) -> str:
    return text.split(f'<section id="{key}"')[1].split("</section>")[0]


@pytest.mark.parametrize("least", [55, 30], ids=["few", "many"])
def test_levels_that_a_rule_makes_missing_have_a_place_in_every_part(least: int) -> None:
    """A grade is a function of the wind, missing for little wind, so reconstructions, samples and walks have missing
    grades."""
    import pyarrow as pa

    rng = np.random.default_rng(0)
    z = rng.normal(size=2000)
    wind = 5 * np.clip(10 + 4 * z + rng.normal(size=2000), 0, 20).astype(int)
    grade = pa.array([f"g{k:02d}" for k in wind // 5 * 3 % 23], mask=wind < least)
    rows = rows_of(pa.table({"z": z, "w": z + 0.1 * rng.normal(size=2000), "wind": wind, "grade": grade}))
    assert "wind -> grade" in {rule.text for rule in rows.schema.rules}
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        text = report.render(fit_rows(rows), rows)
    assert "This part cannot be made" not in text


@pytest.fixture(scope="module")
def mixed_run() -> tuple[Run, Rows]:
    rows = rows_of(mixed())
    return fit_rows(rows), rows


def test_a_table_with_every_kind_of_column_has_a_page(mixed_run: tuple[Run, Rows]) -> None:
    run, rows = mixed_run
    text = report.render(run, rows)
    page = check(text)
    assert {"columns", "dependence"} <= set(page.ids)
    assert "<b>size" not in text and "<i>a" not in text and "nan " not in text and ">nan" not in text
    columns = section(text, "columns")
    assert columns.count("<tr") == 11 and columns.count('class="out"') == 3  # id, always, empty
    assert columns.count('class="bar"') == 3 and "100 %" in columns and "drawn to match those of the data" in columns
    assert isinstance(run.schema, Table)
    samples = section(text, "samples")
    assert samples.count("<figure") == len(run.schema.names) == 7
    assert samples.count(", within chance") + samples.count(", more than chance") == 7
    assert ">2021<" in samples, "dates have years for ticks"
    assert "5 others" not in samples and "6 others" in samples  # nine of 15 levels are named
    found = re.findall(r"(?:KS|TV) (\d\.\d+), (more|within)", samples)
    assert len(found) == 7 and found == sorted(found, key=lambda each: (each[1] == "within", -float(each[0])))
    assert section(text, "dependence").count("<svg") == 2
    assert text == report.render(run, rows), "the page must be the same for the same run"


def test_the_page_begins_with_what_was_learnt_how_good_it_is_and_what_to_distrust(
    mixed_run: tuple[Run, Rows]
) -> None:
    run, rows = mixed_run
    subject = Subject(run, rows, None, None, None)
    first = report.render(run, rows).split("</h1>")[1].split("</p>")[0]
    assert "<b>Learnt:</b>" in first and "<b>Distrust:</b>" in first
    assert f"{max(0.0, 1 - subject.figures.relative_rmse**2):.0%} of the variance of the numbers" in first  # type: ignore
    run.warnings.append("<one>")
    try:
        assert "warning" in report.render(run, rows).split("<b>Distrust:</b>")[1].split("</p>")[0]
    finally:
        run.warnings.pop()


def test_a_column_that_a_rule_determines_is_marked(mixed_run: tuple[Run, Rows]) -> None:
    run, _ = mixed_run
    assert isinstance(run.schema, Table)
    column = run.schema.outer_by_name["price"]
    values = np.arange(1.0, 6.0)
    for again, said in ((values, "R² 1.00; by rule: a = b"), (np.full(5, np.nan), "<small>by rule: a = b")):
        assert said in str(tables._scatter(column, values, again, "by rule: a = b"))
    assert "all of one value" in str(tables._scatter(column, np.ones(5), np.ones(5), ""))


def test_rows_without_any_cell_of_a_column_have_a_page(mixed_run: tuple[Run, Rows]) -> None:
    run, _ = mixed_run
    table = mixed(40, 1)
    at = table.column_names.index("visits")
    import pyarrow as pa

    assert run.schema is not None
    for count in (40, 1):
        bare = table.set_column(at, "visits", pa.nulls(40, pa.int64())).slice(0, count)
        text = report.render(run, rows_like(bare, run.schema, run.given))
        assert all(f'<section id="{key}"' in text for key in (*KEYS, "columns"))
        assert "No cell of this column is observed" in text and "cannot be made" not in text


def test_a_page_without_data_or_of_an_autoencoder_says_what_is_left_out(mixed_run: tuple[Run, Rows]) -> None:
    text = report.render(mixed_run[0], None)
    check(text, left_out=("reconstructions", "map", "rate", "traversal", "interpolations"))
    assert "nothing to compare the samples with" in text
    text = report.render(fit_rows(mixed_run[1], "ae"), mixed_run[1])
    check(text, left_out=("rate",))
    assert "Decoded random codes" in text and "has no samples to compare" in text


def test_given_columns_are_marked_and_colour_the_map() -> None:
    rows = rows_of(mixed().drop_columns(["group"]), asked=Asked(condition=("flag",)))
    run = fit_rows(rows)
    text = report.render(run, rows)
    check(text, left_out=("traversal",) if "No latent dimension is active" in text else ())
    assert section(text, "columns").count('class="badge">given') == 1
    assert "Colours show flag" in section(text, "map") and "conditions are those of the data" in text
    check(report.render(run, None), left_out=("reconstructions", "map", "rate", "traversal", "interpolations"))


def test_distances_of_distributions_are_those_of_scipy_and_a_loop() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for n, m, step in ((50, 70, 0.0), (1, 5, 0.0), (200, 90, 0.5), (30, 30, 1.0)):
        a, b = rng.normal(size=n), rng.normal(0.4, 1.3, size=m)
        if step:
            a, b = np.round(a / step) * step, np.round(b / step) * step
        assert kolmogorov_smirnov(a, b) == pytest.approx(stats.ks_2samp(a, b).statistic, abs=1e-12)
        values = set(a) | set(b)
        slow = sum(abs((a == v).mean() - (b == v).mean()) for v in values) / 2
        assert marginals.total_variation(a, b) == pytest.approx(slow, abs=1e-12)


def test_more_than_chance_is_a_test_at_five_percent() -> None:
    """For samples of one distribution, the test errs in at most 5 % of cases: in at most 33 of 400, with a false alarm
    rate of 0.3 % (binomial). If two means differ by at least 4 standard errors, it detects nearly all cases."""
    rng = np.random.default_rng(1)
    number_column = Column("x", "continuous", "double", "normal")
    level_column = Column("g", "categorical", "string", "categorical", tuple("abc"))
    false = 0
    for _ in range(200):
        false += bool(MarginalComparison(number_column, rng.normal(size=40), rng.normal(size=60)).tested(rng).more)
        levels = rng.integers(0, 3, 100).astype(float)
        false += bool(MarginalComparison(level_column, levels[:40], levels[40:]).tested(rng).more)
    assert false <= 33
    assert MarginalComparison(number_column, rng.normal(size=200), rng.normal(1, 1, 200)).tested(rng).more
    assert MarginalComparison(level_column, np.zeros(50), rng.integers(0, 2, 50).astype(float)).tested(rng).more
    far = MarginalComparison(number_column, np.zeros(5), np.ones(5))
    assert (far.distance, far.more) == (1.0, None)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (Column("x", "continuous", "double", "normal"), np.random.default_rng(0).standard_cauchy(4000)),
        (Column("p", "positive", "double", "log_normal"), np.random.default_rng(0).lognormal(0, 3, 4000)),
        (Column("n", "count", "int64", "poisson"), np.random.default_rng(0).negative_binomial(0.2, 0.002, 4000) * 1.0),
        (Column("k", "count", "int64", "poisson"), np.random.default_rng(0).poisson(2.0, 4000) * 1.0),
        (
            Column("d", "continuous", "double", "normal", decimals=1),
            np.random.default_rng(0).normal(size=4000).round(1),
        ),
        (Column("c", "continuous", "double", "normal"), np.full(9, 3.0)),
        (Column("none", "continuous", "double", "normal"), np.full(9, np.nan)),
    ],
    ids=lambda each: each.name if isinstance(each, Column) else "",
)
def test_an_axis_covers_all_but_the_tails(column: Column, values: np.ndarray) -> None:
    axis = charts.Axis.of(column, values)
    edges = axis.edges()
    assert np.isfinite(edges).all() and (np.diff(edges) > 0).all() and 2 <= len(edges) <= charts.BINS + 3
    seen = values[np.isfinite(values)]
    if len(seen):
        assert ((seen >= edges[0]) & (seen <= edges[-1])).mean() >= 0.989  # 0.5 % beyond each end
    step = 1.0 if column.kind == "count" else 10.0 ** -(column.decimals or np.inf)
    assert np.abs(seen[:, None] - edges).min(initial=np.inf) > 0.4 * step or not step, "whole steps fall inside of bins"
    with figures.drawing():
        charts.distribution(axis, [(seen, "c9", True), (seen[:0], "c0", False)], "no crash")
        charts.scatter(axis, seen, seen, "no crash")


def test_levels_after_the_tenth_are_joined() -> None:
    column = Column("g", "categorical", "string", "categorical", tuple(f"l{i:02d}" for i in range(30)))
    codes = np.repeat(np.arange(30.0), np.arange(1, 31))
    names, (first, second) = marginals.grouped(column, codes, codes[::-1])
    assert names == [f"l{i}" for i in range(21, 30)] + ["21 others"]
    assert np.array_equal(first, second[::-1]) and np.bincount(first)[9] == sum(range(1, 22))


def test_names_on_a_map_do_not_cover_each_other() -> None:
    rng = np.random.default_rng(0)
    for spread in (0.0, 0.05, 3.0):
        named = [(f"group {i}", spread * rng.normal(size=2)) for i in range(8)]
        places = figures._apart(named, 0.02)
        gaps = np.abs(places[:, None] - places[None])
        covered = (gaps[..., 0] < 0.02 * (7 * 7 + 8)) & (gaps[..., 1] < 0.02 * 13)
        assert covered.sum() == len(named)  # each covers only itself


def test_the_chart_of_active_units_has_the_threshold_of_their_count() -> None:
    """The codes of a codebook have a prior without unit variance. The dimensions drawn as active are those that are
    counted."""
    x = table()[:, :4]
    run = fit(x, "vq")
    subject = Subject(run, x, None, None, None)
    variance = run.model.prior().variance.double().numpy()
    assert (np.abs(np.log(variance)) > 0.1).all()
    spread = run.model.encode(subject.tensor).mean.detach().double().numpy().var(0) / variance
    assert subject.spread == pytest.approx(spread, rel=1e-5)
    assert sorted(subject.dimensions[0]) == np.flatnonzero(spread > 0.01).tolist()


def test_a_report_of_sequences_shows_their_first_channels() -> None:
    rng = np.random.default_rng(0)
    x = np.sin(np.linspace(0, 6, 12)[None, :, None] + rng.uniform(0, 6, (60, 1, 5))).astype(np.float32)
    rows = rows_of(x, asked=Asked(layout="TC"))
    for recipe in ("vae", "ae"):
        text = report.render(fit_rows(rows, recipe), rows)
        left = ("traversal",) if "No latent dimension is active" in text else ()
        check(text, left_out=left + ("rate",) * (recipe == "ae"))
        assert "channel 3" in text and "first 4 of 5 channels" in text


def test_a_report_of_counts_shows_variance_against_mean() -> None:
    rng = np.random.default_rng(0)
    x = rng.poisson(np.exp(rng.normal(0, 1, 60) + rng.normal(size=(200, 1))))
    rows = rows_of(x, asked=Asked(kind="count"))
    run = fit_rows(rows)
    assert "Samples" in report.render(run, None)
    text = report.render(run, rows)
    check(text, left_out=("traversal",) if "No latent dimension is active" in text else ())
    samples = section(text, "samples")
    assert "Variance against mean" in samples and "those with the largest means" in samples
    assert f"{100 * (x == 0).mean():.0f} % of the data" in samples


def test_the_page_shows_the_name_of_a_file_and_its_path_to_the_pointer(mixed_run: tuple[Run, Rows]) -> None:
    run, rows = mixed_run
    run.data["origin"] = "/some/folder/people.csv"
    text = report.render(run, rows)
    assert 'title="/some/folder/people.csv">people.csv<' in text


@pytest.mark.browser
def test_a_browser_opens_the_page_without_errors(
    image_run: Run, digits: tuple[np.ndarray, np.ndarray], compared: Comparison, tmp_path: Path
) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no chromium, chromium-browser or google-chrome on the path")
    path = tmp_path / "report.html"
    report.write(path, image_run, digits[0], labels=digits[1], comparison=compared)
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--enable-logging=stderr", "--v=0",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=2000",
        "--dump-dom", path.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    # scripts, refused loads and broken markup all show as a CONSOLE line, whatever its level
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints, complaints
    for key in (*KEYS, "comparison"):
        assert f'<section id="{key}"' in done.stdout, (key, done.stderr[-2000:])
    assert done.stdout.count("<svg") > 10 and done.stdout.count("<img") > 50
