"""Every option of every recipe refuses a meaningless value in one sentence when the model is built."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from commanding import refused
from parts import data

import latens
from latens import recipes
from latens.errors import InputError
from latens.recipes.choices import DataInfo

X = torch.as_tensor(data(24, 4), dtype=torch.float32)
NEVER = (math.nan, "much")  # values that no option accepts
MAYBE = (0, -1, 0.5, True, None, 1e30, math.inf)


def own_options(name: str) -> list[str]:
    """The recipe's own options; options that all recipes share have other tests."""
    common = {"latent_dim", "likelihood", "variance", "network", "missing", "heads", "posterior", "prior"}
    return [option for option in recipes.options(recipes.CATALOGUE[name]) if option not in common]


def outcome(name: str, option: str, value: Any) -> str | None:
    """The sentence with which the value is refused; None if a model was built and has a loss."""
    torch.manual_seed(0)
    info = DataInfo(latens.data.infer(X.numpy()), len(X), X)
    latent = {"latent_dim": 2} if "latent_dim" in recipes.options(recipes.CATALOGUE[name]) else {}
    try:
        model, objective = recipes.Recipe(name, **latent, **{option: value}).build(info)
    except InputError as error:
        return str(error)
    objective.losses(model, X, objective.draw(model, X))
    return None


@pytest.mark.parametrize("name", [name for name in recipes.CATALOGUE if name != "cvae" and own_options(name)])
def test_an_option_takes_a_value_or_refuses_it_in_a_sentence(name: str) -> None:
    for option in own_options(name):
        for value in (*NEVER, *MAYBE):
            said = outcome(name, option, value)
            if value in NEVER:
                assert said is not None, (name, option, value)
            assert said is None or (len(said) > 20 and "float()" not in said and "convert" not in said), said


ONE_BY_ONE = ("planar", "neural_spline", "iaf", "radial", "tvo", "hvae", "semi_amortised", "residual_vq")


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_parts_that_are_built_one_by_one_have_a_limit(name: str) -> None:
    [option] = {"tvo": ["partitions"], "residual_vq": ["levels"]}.get(name, ["steps"])
    most = "10,000" if name in ("hvae", "tvo") else "1,000"
    assert f"to {most}, got" in str(outcome(name, option, 10**10))


NAMED = {"hierarchical_vamp": "second_dim", "gumbel_softmax": "temperature", "rae_l2": "weight", "poincare": "features"}


@pytest.mark.parametrize("name", NAMED)
def test_the_sentence_names_the_option(name: str) -> None:
    assert NAMED[name] in str(outcome(name, NAMED[name], math.nan))


def test_the_command_line_refuses_options_in_the_same_sentences(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = refused("fit", "iris", "--out", "run", "--recipe", "gumbel_softmax", "--temperature=1e10")
    assert said == "temperature must be a number from 0.4 to 1,000, got 10000000000.0"
    assert "CodeEnergy" in refused("fit", "iris", "--out", "run", "--recipe", "rae_l2", "--code-weight=-1")


@pytest.mark.parametrize(("kind", "option"), [("maf", "transforms"), ("autoregressive", "layers"), ("metric", "moves")])
def test_options_of_densities_have_limits_too(kind: str, option: str) -> None:
    from latens.densities import kinds
    from latens.densities.base import Codes

    codes = Codes.split(torch.randint(0, 3, (20, 2)) if kind == "autoregressive" else torch.randn(20, 2), levels=None)
    with pytest.raises(InputError, match=f"{option} must be a whole number from 1 to 10,000"):
        kinds.kind_of(kind).fit(codes, **{option: 10**10})
