"""The report: whole, self-contained, escaped, the same every time, and never a crash."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import latens
from latens import conditionals, models, objectives, priors, report
from latens.compare import Comparison, compare
from latens.data import infer, read
from latens.evaluation import evaluate
from latens.fitting import fit_recipe
from latens.recipes import Recipe
from latens.report import pixels
from latens.report.groups import group
from latens.run import Run
from latens.schema import Schema
from latens.training import Settings

KEYS = ("reconstructions", "samples", "map", "rate", "traversal", "interpolations", "training", "choices", "provenance")
QUICK = Settings(epochs=3)
NAMES = ("<script>alert(1)</script>", 'a "quoted" & name', "$x_1$", "Länge", "flag")


def fit(x: np.ndarray, recipe: str = "vae", names: tuple[str, ...] | None = None, **options: object) -> Run:
    run = fit_recipe(x, infer(x, names), Recipe(recipe), QUICK, options={"latent_dim": 3} | options)
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
    """What a browser would be told to load, the sections, and how tags balance."""

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
    """The laws of every page: all sections, nothing loaded, no script, tags closed; only ``left_out`` are notes."""
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


def test_images(image_run: Run, digits: tuple[np.ndarray, np.ndarray], compared: Comparison) -> None:
    x, labels = digits
    assert image_run.schema is not None
    figures = evaluate(image_run.model, torch.from_numpy(image_run.schema.to_model(x[:100])), k=7)
    figures.warnings.append("1 of 3 latent dimensions <collapsed>")
    given = {"labels": labels, "evaluation": figures, "comparison": compared}
    text = report.render(image_run, x, **given)
    page = check(text)
    assert "comparison" in page.ids
    assert "K = 7" in text and f"{figures.elbo:.2f}".replace("-", "−") in text
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


def test_a_table_with_names_that_look_like_markup() -> None:
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


def test_without_data(image_run: Run) -> None:
    text = report.render(image_run, None)
    check(text, left_out=("reconstructions", "map", "rate", "traversal", "interpolations"))
    assert "needs data" in text
    table_run = fit(table(120), "ae")
    check(
        report.render(table_run, None),
        left_out=("reconstructions", "samples", "map", "rate", "traversal", "interpolations"),
    )


IMAGES = {
    "binary": (np.random.default_rng(1).random((60, 9, 4)) > 0.5, {}),
    "rgb, odd": (np.random.default_rng(2).integers(0, 256, (60, 7, 5, 3)).astype(np.uint8), {}),
    "rgba, channels first": (np.random.default_rng(3).integers(0, 256, (60, 4, 6, 9)).astype(np.uint8), {}),
    "two channels, any range": (np.random.default_rng(4).normal(500, 90, (60, 2, 5, 6)).astype(np.float32), {}),
    "a line of pixels": (np.random.default_rng(5).random((60, 1, 90)).astype(np.float32), {}),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_of_any_kind(name: str) -> None:
    x, options = IMAGES[name]
    run = fit(x, **options)
    text = report.render(run, x, labels=np.linspace(0, 1, len(x)))
    inactive = "No latent dimension is active" in text
    check(text, left_out=("traversal",) if inactive else ())


@pytest.mark.parametrize(("columns", "latent"), [(1, 1), (2, 2), (40, 3)])
def test_tables_of_any_width(columns: int, latent: int) -> None:
    x = np.random.default_rng(0).normal(size=(150, columns)).cumsum(1)
    text = report.render(fit(x, latent_dim=latent), x, labels=np.arange(150) % 14)
    check(text, left_out=("traversal",) if "No latent dimension is active" in text else ())
    assert ("Shown are 12 of 40 columns" in text) == (columns == 40)


def test_one_row_and_three() -> None:
    run = fit(table())
    for rows in (1, 2, 3):
        text = report.render(run, table()[:rows])
        assert all(f'<section id="{key}"' in text for key in KEYS)


def test_parts_of_ones_own() -> None:
    x = table()
    model = models.VAE(
        priors.StandardNormal(2), conditionals.FullNormal(nn.Linear(5, 5)), conditionals.Normal(nn.Linear(2, 5))
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
    """A model that keeps none of the contract but its parameters."""

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
    with pytest.raises(latens.InputError, match="labels must hold one value a row"):
        report.render(image_run, x, labels=labels[:-1])
    with pytest.raises(latens.InputError, match="expected data of shape"):
        report.render(image_run, x.reshape(len(x), -1))
    with pytest.raises(latens.InputError, match="without rows"):
        report.render(image_run, x[:0])


def test_write_is_render(image_run: Run, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
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


def test_groups() -> None:
    kinds = group(np.array([0, 1, 1]), 3, ("no", "yes"))
    assert kinds is not None and kinds.names == ["no", "yes"] and kinds.index.tolist() == [0, 1, 1]
    ranges = group(np.arange(100.0), 100)
    assert ranges is not None and ranges.ordered and len(ranges.names) == 10 and ranges.index.max() == 9
    words = group([f"w{i % 15}" for i in range(60)], 60)
    assert words is not None and len(words.names) == 10 and words.names[-1] == "other (6 kinds)"
    assert group(None, 3) is None


@pytest.mark.browser
def test_a_browser_opens_it_without_a_complaint(
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
