"""The explorer: the command, the content of the page, the page in a browser, and the local process that decodes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import Tab, tab
from commanding import done, refused
from scipy import sparse

from latens import evaluation
from latens.report.explore import Explorer
from latens.report.explore.packing import unpacked
from latens.report.explore.serving import Server
from latens.runs import outputs, record
from latens.runs.record import Run

WEB = Path(__file__).parent.parent / "web"
ASSETS = Path(__file__).parent.parent / "latens" / "report" / "explore" / "assets"
MIXED = "age,group,visits,since\n" + "".join(
    f"{20 + i % 50}.5,{'abc'[i % 50 // 17 if i % 10 else i // 10 % 3]},{i % 7},"
    f"2020-{1 + i % 12:02}-{1 + i % 28:02}\n"
    for i in range(300)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of digits, one of a mixed table, and their pages."""
    place = tmp_path_factory.mktemp("explore")
    done("fit", "digits", "--out", place / "digits", "--latent-dim", 3, "--epochs", 8)
    done("explore", place / "digits", "--out", place / "digits.html")
    (place / "mixed.csv").write_text(MIXED.replace("23.5,a", ",a"))
    done("fit", place / "mixed.csv", "--out", place / "mixed", "--latent-dim", 2, "--epochs", 30)
    done("explore", place / "mixed", "--out", place / "mixed.html")
    return place


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Tab]:
    with tab(folder) as found:
        yield found


def facts(page: Path) -> dict[str, Any]:
    found = re.search(r'id="about">(.*?)</script>', page.read_text("utf-8"))
    assert found
    return json.loads(found[1])


def block(page: Path, name: str) -> np.ndarray:
    found = re.search(rf'id="block-{name}">(.*?)</script>', page.read_text("utf-8"))
    assert found
    return unpacked(found[1], facts(page)["kinds"][name])


# The content of the page


def test_a_page_names_no_address_and_may_contact_none(folder: Path):
    for name in ("digits", "mixed"):
        text = (folder / f"{name}.html").read_text("utf-8")
        assert "connect-src 'none'" in text
        assert not re.findall(r'(?:src|href)="(?!data:,")', text)
        assert not re.findall(r"https?://", text)


def test_a_page_contains_the_codes_cells_and_row_numbers(folder: Path):
    from sklearn.datasets import load_digits

    page = folder / "digits.html"
    about = facts(page)
    rows, numbers = about["rows"], block(page, "numbers")
    assert rows["count"] == rows["total"] == rows["kept"] == 1797
    assert sorted(numbers) == list(range(1797))
    cells = block(page, "cells").reshape(1797, 64)
    assert np.array_equal(cells, load_digits().data[numbers].astype(np.uint8))
    rates = about["dimensions"]["rates"]
    assert rates == sorted(rates, reverse=True)


def test_values_of_rows_are_those_of_the_data(folder: Path):
    """Numbers, dates and levels are exact to the last digit, gaps are gaps, and ranks count from 1."""
    page = folder / "mixed.html"
    numbers, written = block(page, "numbers"), {}
    for value in facts(page)["rows"]["values"]:
        stored = block(page, value["block"]).astype(float)
        written[value["name"]] = np.where(stored == value["missing"], np.nan, value["low"] + value["step"] * stored)
    lines = [line.split(",") for line in (folder / "mixed.csv").read_text().split()[1:]]
    age, group, visits, since = zip(*[lines[i] for i in numbers])
    days = np.array(since, "datetime64[D]").astype(float)
    assert np.array_equal(written["age"], np.array([each or "nan" for each in age], float), equal_nan=True)
    assert np.array_equal(written["since"], days)
    assert ["abc"[int(k)] for k in written["group"]] == list(group)
    assert np.array_equal(written["visits"], np.array(visits, float))
    assert sorted(written["anomaly rank"]) == list(range(1, 301))
    for value in facts(page)["rows"]["values"]:
        if not value["levels"]:
            assert np.isclose(value["high"], np.nanmax(written[value["name"]])), value["name"]


def test_a_page_names_no_folder_of_the_machine(folder: Path):
    for name in ("digits", "mixed"):
        assert str(folder) not in (folder / f"{name}.html").read_text("utf-8")


def test_rows_are_left_out_and_thinned_on_request(folder: Path):
    out = folder / "few.html"
    said = done("explore", folder / "digits", "--out", out, "--no-rows", "--points", 100).out
    assert "100 of 1,797 rows" in said and "--no-rows" not in said
    about = facts(out)
    assert about["rows"]["count"] == 100 and about["rows"]["kept"] == 0 and "cells" not in about["kinds"]
    assert "pass --no-rows" in done("explore", folder / "digits", "--out", out).out


def test_the_same_run_gives_the_same_page(folder: Path):
    done("explore", folder / "digits", "--out", folder / "again.html")
    assert (folder / "again.html").read_bytes() == (folder / "digits.html").read_bytes()


@pytest.mark.parametrize("words, said", [
    (("--out", "page.txt"), "name a file that ends in .html"),
    (("--out", "nowhere/page.html"), "make the folder first"),
    (("--points", "1"), "--points"),
    (("--labels", "label", "--out", "page.html"), "need DATA"),
    (("wine", "--out", "page.html"), "wine"),
])  # fmt: skip
def test_bad_input_is_one_sentence(words: tuple[str, ...], said: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    sentence = refused("explore", "digits", *words)
    assert said in sentence and sentence.count("\n") <= 1
    assert not (folder / "page.html").exists()


@pytest.mark.parametrize("place, known, said", [
    ("operators", lambda: frozenset({"linear"}), "the page lacks the operators "),
    ("CELLS", 63, "rows have 64 cells, but a page decodes at most 63 at once"),
])  # fmt: skip
def test_what_the_page_cannot_run_is_named(
    place: str, known: Any, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    module = sys.modules["latens.report.explore" + ".graph" * (place == "operators")]
    monkeypatch.setattr(module, place, known)
    sentence = refused("explore", folder / "digits", "--out", folder / "page.html")
    assert said in sentence and "omit --out" in sentence
    assert not (folder / "page.html").exists()


def test_a_model_without_an_encoder_is_refused(folder: Path):
    done("fit", "digits", "--out", folder / "gan", "--recipe", "gan", "--epochs", 1, "--batch-size", 512)
    assert "no encoder" in refused("explore", folder / "gan", "--out", folder / "gan.html")
    assert not (folder / "gan.html").exists()


# The page in a browser


def opened(browser: Tab, page: Path, **window: Any) -> None:
    browser.log.clear()
    browser.requests.clear()
    browser.open(page.as_uri(), **window)
    browser.until("document.documentElement.dataset.ready")


def quiet(browser: Tab, page: Path) -> None:
    """Check that nothing was logged, and that the page alone was requested."""
    assert browser.log == []
    assert {url.split("#")[0] for url in browser.requests if not url.startswith(("data:", "blob:", "about:"))} == {
        page.as_uri()
    }


PIXELS = (
    "(() => { const c = document.querySelector('#decoded canvas');"
    " const k = new OffscreenCanvas(c.width, c.height).getContext('2d', {willReadFrequently: true});"
    " k.drawImage(c, 0, 0);"
    " return Array.from(k.getImageData(0, 0, c.width, c.height).data).filter((_, i) => i % 4 == 0) })()"
)


def decoded(run: Run, codes: list[list[float]]) -> np.ndarray:
    return evaluation.decode(run.model, torch.tensor(codes)).flatten(1).numpy()


@pytest.mark.browser
def test_a_click_decodes_and_equals_torch(folder: Path, browser: Tab):
    page = folder / "digits.html"
    opened(browser, page)
    before = browser.run(PIXELS)
    left, top, width, height = browser.box("#map-canvas")
    browser.click(left + 0.3 * width, top + 0.35 * height)
    browser.until(f"JSON.stringify({PIXELS}) != JSON.stringify({json.dumps(before)})")
    z = browser.run("latens.z")
    wanted = decoded(record.load(folder / "digits"), [z])[0]
    assert np.abs(np.array(browser.run(PIXELS)) - wanted / 16 * 255).max() < 3
    found = np.array(browser.run(f"latens.decode([{json.dumps(z)}])"))[0]
    assert np.abs(found - wanted).max() < 0.1
    browser.until("location.hash.includes('z=')")
    quiet(browser, page)


@pytest.mark.browser
def test_sliders_and_keys_move_the_code(folder: Path, browser: Tab):
    page = folder / "digits.html"
    opened(browser, page)
    first = facts(page)["dimensions"]["active"][0]
    before = browser.run("latens.z")
    slider = f"document.getElementById('dimension-{first}')"
    browser.run(f"(e => {{ e.value = 2; e.dispatchEvent(new Event('input')) }})({slider})")
    browser.until(f"Math.abs(latens.z[{first}] - 2) < 0.01")
    assert [v for d, v in enumerate(browser.run("latens.z")) if d != first] == [
        v for d, v in enumerate(before) if d != first
    ]
    browser.run("document.getElementById('map-canvas').focus()")
    before = browser.run("latens.z")
    browser.key("ArrowRight")
    browser.until(f"JSON.stringify(latens.z) != {json.dumps(json.dumps(before, separators=(',', ':')))}")
    quiet(browser, page)


@pytest.mark.browser
def test_a_lasso_and_a_filter_select_the_rows_of_the_download(folder: Path, browser: Tab):
    page = folder / "digits.html"
    opened(browser, page)
    left, top, width, height = browser.box("#map-canvas")
    browser.run("document.getElementById('tool-lasso').click()")
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99)]
    browser.mouse("Pressed", left + 0.01 * width, top + 0.01 * height)
    for x, y in corners[1:]:
        browser.mouse("Moved", left + x * width, top + y * height, buttons=1)
    browser.mouse("Released", left + 0.01 * width, top + 0.99 * height)
    browser.until("document.getElementById('selected-count')")
    inside = int(browser.run("document.getElementById('selected-count').textContent").replace(",", ""))
    assert inside > 1700
    target = folder / "selection.csv"
    target.unlink(missing_ok=True)
    browser.run("latens.select([3, 5, 8])")
    browser.until("document.getElementById('selected-count')?.textContent === '3'")
    browser.run("document.getElementById('selection-csv').click()")
    browser.until("true")
    for _ in range(100):
        if target.exists() and target.read_text() == "row\n3\n5\n8\n":
            break
        browser.run("new Promise(r => setTimeout(r, 50))")
    assert target.read_text() == "row\n3\n5\n8\n"
    names = "document.getElementById('filter-name')"
    browser.run(f"(e => {{ e.selectedIndex = 1; e.dispatchEvent(new Event('change')) }})({names})")
    browser.until("document.getElementById('counted').textContent.includes('178 rows shown')")
    quiet(browser, page)


def view(browser: Tab) -> list[float]:
    """The middle of the map and its scale, once the address holds them."""
    browser.run("new Promise(r => setTimeout(r, 500))")
    return [float(v) for v in browser.run("new URLSearchParams(location.hash.slice(1)).get('view')").split(",")]


@pytest.mark.browser
def test_two_fingers_zoom_the_map_and_one_decodes(folder: Path, browser: Tab):
    """Two fingers that move apart zoom by the ratio of their distances, about their middle, and leave the code
    alone."""
    page = folder / "digits.html"
    opened(browser, page, width=420, height=800)
    browser.run("latens.z = latens.z")
    (x, y, scale), code = view(browser), browser.run("latens.z")
    left, top, width, height = browser.box("#map-canvas")
    middle, apart = (left + 0.6 * width, top + 0.4 * height), 20.0

    def fingers(by: float) -> list[tuple[float, float]]:
        return [(middle[0] - by * apart, middle[1]), (middle[0] + by * apart, middle[1])]

    browser.touch("Start", fingers(1)[0])
    browser.touch("Start", *fingers(1))
    for by in (1.5, 2.0, 2.5, 3.0):
        browser.touch("Move", *fingers(by))
    browser.touch("End", fingers(3)[0])
    browser.touch("Move", middle)
    browser.touch("End")
    after = view(browser)
    assert after[2] == pytest.approx(3 * scale, rel=1e-3)
    held = [(0.6 - 0.5) * width * (1 / scale - 1 / after[2]), (0.5 - 0.4) * height * (1 / scale - 1 / after[2])]
    assert np.allclose(np.array(after[:2]) - [x, y], held, atol=2 / scale)
    assert browser.run("latens.z") == code
    browser.touch("Start", middle)
    browser.touch("End")
    browser.until(f"JSON.stringify(latens.z) !== {json.dumps(json.dumps(code, separators=(',', ':')))}")
    quiet(browser, page)


def dots(browser: Tab, canvas: str) -> np.ndarray:
    """The grey values of a canvas."""
    return np.array(browser.run(PIXELS.replace("#decoded canvas", canvas)))


@pytest.mark.browser
def test_hovering_over_a_dot_shows_its_row(folder: Path, browser: Tab):
    from sklearn.datasets import load_digits

    page, digits = folder / "digits.html", load_digits()
    opened(browser, page)
    left, top, width, height = browser.box("#map-canvas")
    seen = set()
    for share in np.linspace(0.3, 0.7, 12):
        browser.mouse("Moved", left + share * width, top + 0.5 * height)
        browser.run("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
        if browser.run("document.getElementById('tip').hidden"):
            continue
        row = int(browser.run("document.querySelector('#tip b').textContent").split()[1].replace(",", ""))
        said = browser.run("[...document.querySelectorAll('#tip div div')].map(e => e.textContent)")
        assert f"label {digits.target[row]}" in said
        assert np.abs(dots(browser, "#tip canvas") - digits.data[row] / 16 * 255).max() < 1
        seen.add(row)
    assert len(seen) > 3
    browser.mouse("Moved", 5, 5)
    browser.until("document.getElementById('tip').hidden")
    quiet(browser, page)


def downloaded(browser: Tab, button: str, target: Path) -> bytes:
    """What a button of the page downloads to a file."""
    target.unlink(missing_ok=True)
    browser.run(f"document.getElementById('{button}').click()")
    for _ in range(100):
        if target.exists() and target.stat().st_size:
            break
        browser.run("new Promise(r => setTimeout(r, 50))")
    return target.read_bytes()


@pytest.mark.browser
def test_kept_images_are_downloaded_as_they_are_decoded(folder: Path, browser: Tab):
    from PIL import Image

    page = folder / "digits.html"
    opened(browser, page)
    codes = [[0.5, -1.0, 0.25], [-1.5, 0.0, 1.0], [0.0, 2.0, -0.5]]
    for code in codes:
        browser.run(f"latens.z = {json.dumps(code)}")
        browser.run("new Promise(r => setTimeout(r, 200))")
        browser.run("document.getElementById('keep').click()")
    browser.run("document.getElementById('tab-kept').click()")
    exact = np.array(browser.run(f"latens.decode({json.dumps(codes)})"))
    wanted = decoded(record.load(folder / "digits"), codes)
    head, *lines = downloaded(browser, "kept-csv", folder / "kept.csv").decode().splitlines()
    assert head.split(",") == [f"cell {j}" for j in range(64)]
    found = np.array([[float(v) for v in line.split(",")] for line in lines])
    assert np.array_equal(found, exact) and np.abs(found - wanted).max() < 0.1
    downloaded(browser, "kept-png", folder / "kept.png")
    with Image.open(folder / "kept.png") as file:
        image = np.asarray(file.convert("L")).astype(float)
    by, gap = 96 // 8, 2
    assert image.shape == (2 * 96 + gap, 2 * 96 + gap)
    for i, row in enumerate(wanted):
        y, x = (96 + gap) * (i // 2), (96 + gap) * (i % 2)
        part = image[y + by // 2 : y + 96 : by, x + by // 2 : x + 96 : by]
        assert np.abs(part - row.reshape(8, 8) / 16 * 255).max() < 3
    quiet(browser, page)


@pytest.mark.browser
def test_kept_samples_of_a_table_are_downloaded_as_they_are_decoded(folder: Path, browser: Tab):
    page = folder / "mixed.html"
    opened(browser, page)
    z = [[0.5, -1.0], [-1.5, 0.25]]
    for code in z:
        browser.run(f"latens.z = {json.dumps(code)}")
        browser.run("new Promise(r => setTimeout(r, 200))")
        browser.run("document.getElementById('keep').click()")
    browser.run("document.getElementById('tab-samples').click()")
    browser.until("document.querySelectorAll('#sampled .tile').length === 8")
    browser.run("document.getElementById('keep-samples').click()")
    browser.run("document.getElementById('tab-kept').click()")
    head, *lines = downloaded(browser, "kept-csv", folder / "kept.csv").decode().splitlines()
    assert head == "age,group,visits,since" and len(lines) == 10
    wanted = outputs.decoded(record.load(folder / "mixed"), torch.tensor(z)).to_pylist()
    for line, row in zip(lines, wanted):
        age, group, visits, since = line.split(",")
        assert [float(age), group, since] == [row["age"], row["group"], row["since"].isoformat()]
        assert float(visits) == float(row["visits"])
    for line in lines:
        age, group, visits, since = line.split(",")
        assert 20.5 <= float(age) <= 69.5 and group in "abc" and 0 <= float(visits) <= 6 and since[:5] == "2020-"
    quiet(browser, page)


@pytest.mark.browser
def test_the_path_of_a_model_with_a_metric_is_its_geodesic(folder: Path, browser: Tab):
    random, page = np.random.default_rng(0), folder / "ring.html"
    angle = random.uniform(0, 2 * np.pi, 50)
    np.save(folder / "ring.npy", np.c_[np.cos(angle), np.sin(angle)] + 0.05 * random.normal(size=(50, 2)))
    done("fit", folder / "ring.npy", "--out", folder / "ring", "--recipe", "rhvae", "--latent-dim", 2, "--epochs", 1)
    done("explore", folder / "ring", "--out", page)
    opened(browser, page)
    browser.open(page.as_uri() + "#a=-2,1&b=1.5,-1&tab=path")
    browser.until("document.getElementById('path-kind')?.selectedIndex === 0")
    assert "metric" in browser.run("document.getElementById('path-kind').options[0].textContent")
    model: Any = record.load(folder / "ring").model
    way = evaluation.geodesic(model.inverse_metric, torch.tensor([[-2.0, 1.0]]), torch.tensor([[1.5, -1.0]]), 5)[:, 0]
    assert (way - torch.lerp(way[:1], way[-1:], torch.linspace(0, 1, 5)[:, None])).abs().max() > 0.05  # not straight
    slider = "document.getElementById('path-t')"
    for share, wanted in zip((0.25, 0.5, 0.75), way[1:4].tolist()):
        browser.run(f"(e => {{ e.value = {share}; e.dispatchEvent(new Event('input')) }})({slider})")
        browser.until(f"Math.hypot(latens.z[0] - {wanted[0]}, latens.z[1] - {wanted[1]}) < 0.01")
    assert browser.log == []


@pytest.mark.browser
def test_a_row_is_next_to_its_reconstruction_and_their_difference(folder: Path, browser: Tab):
    page = folder / "mixed.html"
    opened(browser, page)
    browser.run("document.getElementById('tab-row').click()")
    browser.until("document.querySelectorAll('#row-detail tbody tr').length === 4")
    cells = "[...document.querySelectorAll('#row-detail tbody tr')].map(r => [...r.children].map(c => c.textContent))"
    number = int(browser.run("document.querySelector('#row-detail h3').textContent").split()[1])
    rows = {name: rest for name, *rest in browser.run(cells)}
    wanted = (folder / "mixed.csv").read_text().split()[1 + number].split(",")
    assert [datum.replace("missing", "") for datum, *_ in rows.values()] == wanted
    datum, value, off = rows["age"][:3]
    assert off == "" if datum == "missing" else abs(float(off.replace("−", "-")) - float(value) + float(datum)) < 0.06
    assert rows["since"][2].endswith(" days")
    assert rows["group"][2] == ("" if rows["group"][0] == rows["group"][1] else "≠")
    said = browser.run("document.querySelector('#row-detail p.note').textContent")
    assert f"since {wanted[3]}" in said
    quiet(browser, page)


@pytest.mark.browser
def test_the_map_keeps_its_scale_while_the_window_changes(folder: Path, browser: Tab):
    page = folder / "digits.html"
    opened(browser, page)
    seen = []
    for width, height in ((1280, 900), (1265, 900), (1280, 900), (1000, 1300), (1280, 900)):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.send("Emulation.setDeviceMetricsOverride", **size)
        browser.run("new Promise(r => setTimeout(r, 200))")
        browser.run("latens.z = latens.z")
        browser.run("new Promise(r => setTimeout(r, 500))")
        seen.append(float(browser.run("new URLSearchParams(location.hash.slice(1)).get('view')").split(",")[2]))
    assert np.allclose([seen[2], seen[4]], seen[0], rtol=1e-4)


@pytest.mark.browser
def test_a_selection_of_many_rows_has_their_mean_and_one_of_few_is_seen_on_the_map(folder: Path, browser: Tab):
    """Over 20,000 rows are drawn as a density, on which three selected rows are dots of 12 pixels or more each."""
    x = np.random.default_rng(0).normal(size=(22_000, 2)).round(2)
    x[20_000:, 0] += 10
    np.save(folder / "many.npy", x)
    done("fit", folder / "many.npy", "--out", folder / "many", "--latent-dim", 2, "--epochs", 1)
    done("explore", folder / "many", folder / "many.npy", "--out", folder / "many.html")
    opened(browser, folder / "many.html")
    browser.run(f"latens.select(Array.from({{length: {len(x)}}}, (_, i) => i))")
    browser.until("document.querySelector('#selection table')")
    text = browser.run("[...document.querySelectorAll('#selection table:first-of-type tbody td.value:nth-child(2)')]"
                       ".slice(0, 2).map(e => Number(e.textContent.replace('−', '-')))")  # fmt: skip
    assert np.abs(np.array(text) - x.mean(0)).max() < 6e-3
    browser.run("latens.select([10, 200, 21000])")
    coloured = (
        "(c => { const k = new OffscreenCanvas(c.width, c.height).getContext('2d', {willReadFrequently: true});"
        " k.drawImage(c, 0, 0); const p = k.getImageData(0, 0, c.width, c.height).data; let n = 0;"
        " for (let i = 0; i < p.length; i += 4) n += p[i + 3] > 99 &&"
        " Math.max(p[i], p[i + 1], p[i + 2]) - Math.min(p[i], p[i + 1], p[i + 2]) > 60; return n; })"
        "(document.querySelector('#map canvas.points'))"
    )
    browser.until(f"{coloured} > 36 && {coloured} < 1000")
    quiet(browser, folder / "many.html")


@pytest.mark.browser
def test_the_strangest_rows_of_a_large_page_are_listed(folder: Path, browser: Tab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("latens.report.explore.contents.LARGE", 100)
    monkeypatch.setattr("latens.report.explore.contents.HELD_OF_LARGE", 3000)
    page = folder / "large.html"
    done("explore", folder / "digits", "--out", page)
    opened(browser, page)
    browser.run("document.getElementById('tab-lists').click()")
    browser.until("document.querySelectorAll('#panel-lists h3').length === 3")
    text = browser.run("document.getElementById('panel-lists').textContent")
    assert "Strangest" in text and "rows whose codes the page holds" in text
    quiet(browser, page)


@pytest.mark.browser
@pytest.mark.parametrize("name", ["digits", "mixed"])
@pytest.mark.parametrize("width, dark", [(1280, False), (420, True)])
def test_every_panel_opens_at_every_size(name: str, width: int, dark: bool, folder: Path, browser: Tab):
    page = folder / f"{name}.html"
    opened(browser, page, width=width, height=800, dark=dark)
    browser.run("latens.select([0, 1, 2])")
    for key in ("code", "traversals", "row", "lists", "selection", "path", "samples", "kept"):
        browser.run(f"document.getElementById('tab-{key}').click()")
        browser.until(f"document.getElementById('panel-{key}').textContent.length > 20 || {key!r} === 'lists'")
        assert browser.run("document.documentElement.scrollWidth - innerWidth") <= 0, key
        beyond = "[...document.querySelectorAll('.cells')].filter(e => e.scrollWidth > e.parentElement.clientWidth)"
        assert browser.run(f"{beyond}.map(e => e.textContent)") == [], key
    unnamed = (
        "[...document.querySelectorAll('button, select, input')]"
        ".filter(e => !(e.labels?.length || e.textContent || e.ariaLabel))"
    )
    assert browser.run(f"{unnamed}.length") == 0
    quiet(browser, page)


@pytest.mark.browser
def test_a_table_decodes_to_its_columns_and_levels(folder: Path, browser: Tab):
    page = folder / "mixed.html"
    opened(browser, page)
    z = browser.run("latens.z")
    found = browser.run(f"latens.decode([{json.dumps(z)}])")[0]
    columns = facts(page)["data"]["columns"]
    assert list(found) == [column["name"] for column in columns]
    wanted = outputs.decoded(record.load(folder / "mixed"), torch.tensor([z])).to_pylist()[0]
    assert found == wanted | {"since": wanted["since"].isoformat(), "visits": str(wanted["visits"])}  # levels are text
    text = browser.run("document.getElementById('decoded').textContent")
    assert "age" in text and "2020-" in text and "%" in text
    quiet(browser, page)


@pytest.mark.browser
def test_counts_are_coloured_filtered_and_compared_by_column(folder: Path, browser: Tab):
    """The columns of a matrix colour and filter the map, and differences of a selection are those of its cells."""
    random, page = np.random.default_rng(0), folder / "counts.html"
    means = np.exp(random.normal(0, 1, 30)) * np.where(np.arange(30) == 7, 1 + 20 * (np.arange(300) % 2)[:, None], 1)
    x = random.poisson(means)
    sparse.save_npz(folder / "counts.npz", sparse.csr_matrix(x))
    done("fit", folder / "counts.npz", "--out", folder / "counts", "--latent-dim", 2, "--epochs", 2)
    done("explore", folder / "counts", "--out", page)
    opened(browser, page)
    for menu in ("map-colour", "filter-name"):
        choose = "(e => { e.value = 'column 7'; e.dispatchEvent(new Event('change')) })"
        browser.run(f"{choose}(document.getElementById({menu!r}))")
    browser.run("(e => { e.value = 5; e.dispatchEvent(new Event('change')) })(document.getElementById('filter-low'))")
    inside = x[:, 7] >= 5
    browser.until(f"document.getElementById('counted').textContent.includes('{inside.sum()} rows shown')")
    assert browser.run("document.querySelector('#legend .note').textContent") == "column 7"
    browser.run("document.getElementById('filter-select').click()")
    browser.until("document.querySelectorAll('#selection table').length === 2")
    cells = (
        "[...[...document.querySelectorAll('#selection table')].at(-1).querySelectorAll('tbody tr')]"
        ".map(r => [...r.children].map(c => c.textContent))"
    )
    found = {name: rest for name, *rest in browser.run(cells) if len(rest) == 4}
    own, rest = x[inside, 7].mean(), x[~inside, 7].mean()
    assert [float(v) for v in found["column 7"][:2]] == pytest.approx([own, rest], rel=0.01)
    assert float(found["column 7"][2].split()[0]) == pytest.approx((own - rest) / x[:, 7].std(), abs=0.006)
    quiet(browser, page)


@pytest.mark.browser
def test_decoded_arrays_are_in_the_range_of_the_data(folder: Path, browser: Tab):
    """A normal's mean far from the data leaves their range; the page shows the end of the range, as latens does."""
    random, page = np.random.default_rng(0), folder / "whole.html"
    code = random.normal(size=(300, 1))
    x = np.maximum(0, 20 * code + 30 * random.normal(size=(300, 6))).astype(np.int32)
    np.save(folder / "whole.npy", x)
    done("fit", folder / "whole.npy", "--out", folder / "whole", "--latent-dim", 2, "--epochs", 20)
    done("explore", folder / "whole", "--out", page, "--full")
    opened(browser, page)
    z = [[-6.0, -6.0], [6.0, 6.0], [-6.0, 6.0], [6.0, -6.0], [0.0, 0.0]]
    means = decoded(record.load(folder / "whole"), z)
    assert (means > x.max(0) + 1).any()
    found = np.array(browser.run(f"latens.decode({json.dumps(z)})"))
    assert np.abs(found - means.clip(x.min(0), x.max(0))).max() < 0.01
    quiet(browser, page)


@pytest.mark.browser
def test_conditions_are_chosen_and_kept_with_the_rows(folder: Path, browser: Tab):
    """The page decodes as the model does, given the conditions chosen; the file of kept rows has them as columns."""
    page, random = folder / "given.html", np.random.default_rng(0)
    shop, size = random.integers(0, 3, 300), random.integers(1, 9, 300)
    code = random.normal(size=300)
    sold = random.poisson(4 * (1 + shop) * size * np.exp(code / 2))
    rows = (f"{a}.25,{'NSW'[b]},{c},{d:.4f},{d**2:.4f}" for a, b, c, d in zip(sold, shop, size, code))
    (folder / "given.csv").write_text("\n".join(["sold,shop,size,wind,heat", *rows]) + "\n")
    told = ("--condition", "shop", "--condition", "size")
    done("fit", folder / "given.csv", "--out", folder / "given", *told, "--latent-dim", 2, "--epochs", 20)
    done("explore", folder / "given", "--out", page)
    opened(browser, page)
    run, z, wanted = record.load(folder / "given"), [0.5, -1.0], []
    browser.run(f"latens.z = {json.dumps(z)}")
    for place, number in (("N", 2), ("S", 2), ("W", 7)):
        events = "for (const k of ['input', 'change']) e.dispatchEvent(new Event(k))"
        chosen = f"e.selectedIndex = [...e.options].findIndex(o => o.text === '{place}')"
        for i, change in enumerate((chosen, f"e.value = {number}")):
            browser.run(f"(e => {{ {change}; {events} }})(document.getElementById('condition-{i}'))")
        c, columns = outputs.conditions(run, 1, {"shop": place, "size": number}, 0)
        wanted.append((place, number, outputs.decoded(run, torch.tensor([z]), c, columns).to_pylist()[0]))
        browser.run("new Promise(r => setTimeout(r, 200))")
        browser.run("document.getElementById('keep').click()")
    browser.run("document.getElementById('tab-kept').click()")
    head, *lines = downloaded(browser, "kept-csv", folder / "kept.csv").decode().splitlines()
    assert head == "shop,size,sold,wind,heat"
    for line, (place, number, row) in zip(lines, wanted, strict=True):
        shown, given, *cells = line.split(",")
        assert (shown, int(given)) == (place, number)
        assert [float(v) for v in cells] == pytest.approx([row["sold"], row["wind"], row["heat"]], abs=1e-3)
    assert len({line.split(",")[2] for line in lines}) == 3
    quiet(browser, page)


@pytest.mark.browser
def test_times_are_filtered_to_the_minute(folder: Path, browser: Tab):
    page = folder / "times.html"
    lines = [f"{i % 9}.5,2024-01-{1 + i % 5:02} {i % 24:02}:{i % 60:02}" for i in range(300)]
    (folder / "times.csv").write_text("\n".join(["size,seen", *lines]) + "\n")
    done("fit", folder / "times.csv", "--out", folder / "times", "--latent-dim", 2, "--epochs", 1)
    done("explore", folder / "times", "--out", page)
    opened(browser, page)
    choose = "(e => { e.value = 'seen'; e.dispatchEvent(new Event('change')) })(document.getElementById('filter-name'))"
    browser.run(choose)
    for bound, at in (("low", "2024-01-03T06:00"), ("high", "2024-01-03T17:30")):
        field = f"document.getElementById('filter-{bound}')"
        browser.run(f"(e => {{ e.value = '{at}'; e.dispatchEvent(new Event('change')) }})({field})")
    wanted = sum("2024-01-03 06:00" <= line.split(",")[1] <= "2024-01-03 17:30" for line in lines)
    assert wanted > 10
    browser.until(f"document.getElementById('counted').textContent.includes('{wanted} rows shown')")
    quiet(browser, page)


@pytest.mark.browser
def test_an_address_restores_its_view(folder: Path, browser: Tab):
    page = folder / "digits.html"
    opened(browser, page)
    browser.run("latens.z = [0.5, -1, 0.25]")
    browser.until("location.hash.includes('0.5')")
    address = browser.run("location.href")
    browser.open(address)
    browser.until("document.documentElement.dataset.ready")
    assert browser.run("latens.z") == [0.5, -1, 0.25]
    browser.open(page.as_uri() + "#z=nonsense&map=none&filter=a|b|c&row=x&view=1")
    browser.until("document.documentElement.dataset.ready")
    assert browser.log == []


# The local process


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    run = record.load(folder / "digits")
    from latens.cli.commands.inputs import again, in_memory

    rows = in_memory(again(record.read_record(folder / "digits"), folder / "digits")[1])
    page = Explorer(run, rows, points=50)
    page.lacking = "a test"
    with Server(run, page) as found:
        thread = threading.Thread(target=found.serve_forever, daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def status(url: str, **more: Any) -> int:
    try:
        return urllib.request.urlopen(urllib.request.Request(url, **more), timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_process_decodes_behind_its_token_and_gives_nothing_else(server: Server):
    codes = [[0.1, 0.2, 0.3], [1.0, -1.0, 0.0]]
    body = json.dumps({"codes": codes, "conditions": []}).encode()
    answer = urllib.request.urlopen(urllib.request.Request(server.address + "decode", data=body), timeout=30).read()
    assert np.allclose(np.frombuffer(answer, "<f4").reshape(2, 64), decoded(server.run, codes), atol=1e-5)
    root = server.address.rsplit("/", 2)[0]
    assert status(server.address) == 200
    for path in ("/", "/decode", "/run.json", f"/{server.token}/run.json", f"/{server.token}/../run.json", "/x/decode"):
        assert status(root + path) == 404, path
        assert status(root + path, data=b"{}") == 404, path
    assert status(server.address, headers={"Host": "elsewhere.example"}) == 404
    for wrong in (b"", b"{}", b"[]", b'{"codes": [[1]]}', b'{"codes": "abc", "conditions": []}'):
        assert status(server.address + "decode", data=wrong) == 400, wrong
    assert status(server.address) == 200


@pytest.mark.browser
def test_a_page_served_by_a_process_decodes_in_that_process(server: Server, browser: Tab):
    browser.log.clear()
    browser.open(server.address)
    browser.until("document.documentElement.dataset.ready")
    browser.run("latens.z = [1, -1, 0.5]")
    wanted = decoded(server.run, [[1, -1, 0.5]])[0]
    found = np.array(browser.run("latens.decode([[1, -1, 0.5]])"))[0]
    assert np.allclose(found, wanted, atol=1e-4)
    assert browser.log == []


def test_a_taken_port_is_named(server: Server, folder: Path):
    from latens.errors import InputError

    with pytest.raises(InputError, match=f"--port {server.server_port} is in use"):
        Server(server.run, None, server.server_port)  # type: ignore[arg-type]


# The bundle


def test_the_committed_bundle_is_what_the_sources_give(tmp_path: Path):
    if shutil.which("node") is None:
        pytest.skip("no node on the path")
    if not (WEB / "node_modules" / "esbuild").exists():
        pytest.skip("web/node_modules is not installed: make web")
    subprocess.run(["node", "build.mjs", str(tmp_path)], cwd=WEB, check=True, timeout=120)
    for name in ("explore.js", "explore.css", "operators.json"):
        assert (tmp_path / name).read_bytes() == (ASSETS / name).read_bytes(), f"{name}: run make web"


def test_the_bundle_of_the_page_is_small():
    """The size is that of the packed bundle within a page."""
    from latens.report.explore.packing import packed

    script = np.frombuffer((ASSETS / "explore.js").read_bytes(), np.uint8)
    assert len(packed(script)) < 60_000
