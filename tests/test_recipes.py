"""Descriptions of recipes are complete, printed, shown on the site's pages, and state the ranges that the code
accepts."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import done, figures, refused
from parts import data

import latens
from latens import recipes
from latens.errors import InputError
from latens.recipes import Description, Option, describe
from latens.recipes.choices import DataInfo
from latens.recipes.formulas import plain
from latens.schema import Column

DOCS = Path(latens.__file__).parents[1] / "docs"


@pytest.mark.parametrize("name", recipes.CATALOGUE)
def test_a_description_is_complete(name: str) -> None:
    found = describe(name)
    assert found.combines.endswith(".") and len(found.combines) <= 74, found.combines
    assert found.paragraphs and found.formulas and found.when
    assert found.references and all(re.search(r"\((19|20)\d\d\), \w", each) for each in found.references)
    for option in found.options:
        assert option.text, option
        if option.default is None or isinstance(option.default, int | float):
            assert interval(option.text), f"{option.name} says no range"
    said = inspect.getdoc(recipes.CATALOGUE[name]) or ""
    described = re.findall(r"^    (\w+): ", said.partition("Args:")[2].partition("References:")[0], re.MULTILINE)
    assert set(described) <= {option.name for option in found.options}


@pytest.mark.parametrize("name", recipes.CATALOGUE)
def test_printed_descriptions_are_complete_and_fit_a_terminal(name: str) -> None:
    found, printed = describe(name), done("recipes", name).out
    words = " ".join(printed.split())
    parts = [found.combines, *found.paragraphs, found.when, *found.references, *(each.text for each in found.options)]
    for part in [*parts, *(each.flag for each in found.options), found.example, found.example_in_python]:
        assert part in words
    for formula in found.formulas:
        assert f"    {plain(formula)}\n" in printed and not re.search(r"\\|(?<![_^])\{", plain(formula)), plain(formula)
    prose = [line for line in printed.splitlines() if line[:4] != "    " and "latens" not in line]
    assert max(map(len, prose)) <= 88 and max(map(len, printed.splitlines())) <= 100


@pytest.mark.parametrize("name", recipes.CATALOGUE)
def test_examples_of_a_recipe_name_its_options_and_valid_values(name: str) -> None:
    found = describe(name)
    words = shlex.split(found.example)
    assert words[:5] == ["latens", "fit", "digits", "--recipe", name] and words[-2:] == ["--out", "run"]
    given = {flag[2:].replace("-", "_"): ast.literal_eval(value) for flag, value in zip(words[5:-2:2], words[6:-2:2])
             if flag != "--condition"}  # fmt: skip
    recipes.Recipe(name, **given).build(information(name))
    made = eval(found.example_in_python.removesuffix(".fit(X)"), {"latens": latens})
    assert made.recipe == name or made.recipe.get_params() == {"name": name} | given
    assert made.condition == ("label" if "--condition" in words else ())


def test_formulas_are_readable_in_a_terminal() -> None:
    assert plain(r"\mathbb{E}_{q(z|x)}[\ln p] - \beta\,\mathrm{KL}(q \,\|\, p)") == "E_{q(z|x)}[ln p] − β KL(q ‖ p)"
    assert plain(r"\tfrac{1}{1 - \alpha} w_j^{1 - \alpha}, x^{-1}, y^2") == "(1/(1 − α)) w_j^{1 − α}, x⁻¹, y²"
    assert plain(r"\text{log-odds of}\ \tilde x, \sqrt{h}") == "log-odds of x̃, √(h)"


# Figures and ranges


def test_figures_in_nats_are_those_of_the_catalogue() -> None:
    rows = re.findall(r"^\| (\w+) \| \d+ \| ([\d.]+) ", (DOCS / "catalogue.md").read_text("utf-8"), re.MULTILINE)
    nll = {name: float(value) for name, value in rows if name in recipes.CATALOGUE}
    compared = 0
    for name in nll:
        for sentence in re.split(r"[.;:] ", describe(name).when):
            others = [each for each in re.findall(r"[a-z]\w+", sentence) if each in nll and each != name] or ["vae"]
            for figure in re.findall(r"(\d+) nats", sentence):
                apart = [abs(nll[name] - nll[other]) for other in others]
                assert min(abs(each - int(figure)) for each in apart) < 0.6, (name, sentence, apart)
                compared += 1
    assert compared > 20


@dataclass(frozen=True)
class Interval:
    """The numbers that an option takes, from ``low`` to ``high``, each end included or not; only whole numbers if
    ``whole``."""

    whole: bool
    low: float
    open_low: bool = False
    high: float | None = None
    open_high: bool = False

    def inside(self) -> list[float]:
        """The included ends, or numbers near the excluded ones, if they are small."""
        step = 0.01 if self.open_low else 0
        ends = [self.low + step]
        if self.high is not None and self.high <= 1:
            ends.append(self.high - 0.01 * self.open_high)
        return [int(each) if self.whole else each for each in ends]

    def outside(self) -> list[float]:
        """Numbers beyond the ends, and a fraction if only whole numbers are taken."""
        step = 1 if self.whole else 1e-3 * max(1e-4, abs(self.low))
        found: list[float] = [self.low if self.open_low else self.low - step]
        if self.high is not None:
            found.append(self.high if self.open_high else self.high + step)
        return found + ([self.low + 0.5] if self.whole else [])


NUMBER = r"(-?[\d,.]*\d(?:e-?\d+)?)"
FORMS = (  # numbers in words, and words that exclude an end
    (rf"number between {NUMBER} and {NUMBER}", True, True),
    (rf"number above {NUMBER}, at most {NUMBER}", True, False),
    (rf"number above {NUMBER}", True, False),
    (rf"number from {NUMBER} to below {NUMBER}", False, True),
    (rf"number from {NUMBER} to {NUMBER}", False, False),
    (rf"number from {NUMBER}", False, False),
)


@cache
def interval(text: str) -> Interval | str | None:
    """The range that a description states for an option, or its words if an end depends on the data or other
    options."""
    for form, open_low, open_high in FORMS:
        if found := re.search(rf"a (whole )?{form}", text):
            low, high = (float(each.replace(",", "")) for each in ([*found.groups()[1:], "inf"])[:2])
            return Interval(bool(found[1]), low, open_low, None if high == float("inf") else high, open_high)
    found = re.search(r"a number(, or -inf| up to 1)", text)
    return found[1] if found else None


def information(name: str) -> DataInfo:
    """Data that the recipe takes: images of 8 x 8 if it needs images, otherwise four columns, with a label."""
    labels = torch.arange(24.0) % 3
    images = name in ("vq_grid", "ms_ssim", "feature_reconstruction", "deep_ladder")
    x = torch.as_tensor(data(24, 64 if images else 4), dtype=torch.float32)
    x = x.reshape(24, 1, 8, 8) if images else x
    column = Column("label", "categorical", "int64", "categorical", (0, 1, 2))
    given = name in ("cvae",)
    return DataInfo(latens.data.infer(x.numpy(), layout="CHW" if images else "auto"), 24, x, (column,) if given else (),
                    {"label": labels} if given else None)  # fmt: skip


def builds(name: str, option: Option, value: Any) -> bool:
    also: dict[str, Any] = {"latent_dim": 2}
    also |= {"info_vae": {"weight": 10.0}, "low_rank": {"rank": 1}, "rhvae": {"centroids": 2}}.get(name, {})
    also.pop(option.name, None)
    try:
        recipes.Recipe(name, **also, **{option.name: value}).build(information(name))
    except InputError as error:
        assert str(value) in str(error) or repr(value) in str(error), str(error)
        return False
    return True


RANGED = [
    (name, option)
    for name in recipes.CATALOGUE
    for option in describe(name).options
    if isinstance(interval(option.text), Interval)
]


@pytest.mark.parametrize(("name", "option"), RANGED, ids=lambda each: each if isinstance(each, str) else each.name)
def test_the_described_range_is_the_accepted_range(name: str, option: Option) -> None:
    said = interval(option.text)
    assert isinstance(said, Interval)
    taken = {value: builds(name, option, value) for value in said.inside()}
    refused_ones = {value: builds(name, option, value) for value in said.outside()}
    assert all(taken.values()) and not any(refused_ones.values()), (said, taken, refused_ones)


# Lists, pages


def test_the_list_has_a_line_for_each_under_its_family() -> None:
    lines = done("recipes").out.splitlines()
    for name in recipes.CATALOGUE:
        [line] = [each for each in lines if each.split()[:1] == [name]]
        assert line.endswith(describe(name).combines) and len(line) <= 100
    heads = [each.partition(":")[0] for each in lines if each and not each.startswith((" ", "`"))]
    assert heads == list(recipes.GROUPS)


def test_json_has_the_same_descriptions() -> None:
    listed = figures("recipes")["recipes"]
    assert [each["name"] for each in listed] == list(recipes.CATALOGUE)
    one = figures("recipes", "beta_vae")
    assert one == listed[1] and one["family"] == "bounds" and "Higgins" in one["reference"]
    assert one["options"][1]["default"] == 4.0 and one["formulas"] and one["plain"][0].startswith("maximise")


def test_an_unknown_name_is_refused_and_the_nearest_name_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused("recipes", "beta_vee").startswith("unknown recipe 'beta_vee' (did you mean beta_vae")


def test_a_user_recipe_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text('def small(info, *, width: int = 3):\n    """A small one."""\n')
    monkeypatch.syspath_prepend(tmp_path)
    own = Description("mine:small", "your own", "A small one.", options=[Option("width", 3, "")])
    assert describe("mine:small") == own
    assert "--width (3)" in done("recipes", "mine:small").out


def test_pages_are_those_that_the_docstrings_give() -> None:
    spec = importlib.util.spec_from_file_location("make_recipes", DOCS / "make_recipes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = {path.name: path.read_text("utf-8") for path in (DOCS / "recipes").glob("*.md")}
    assert written == module.pages(), "run python docs/make_recipes.py"
    assert np.all([f"## {name}\n" in "".join(written.values()) for name in recipes.CATALOGUE])
