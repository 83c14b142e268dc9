"""Published models by name, each a short combination of parts.

A recipe is a function ``recipe(info, *, options) -> (model, objective)``; its signature is its configuration.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from latens import models, objectives, priors
from latens.choices import DataInfo, latent_size, likelihood_for, posterior_for
from latens.errors import InputError

RecipeFunction = Callable[..., tuple[nn.Module, objectives.Objective]]


def vae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 1.0, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto", heads: str = "shared", posterior: str = "diagonal",
    samples: int = 1, kl: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """N(0, I) prior, normal posterior, ELBO. (Kingma & Welling 2014; Rezende, Mohamed & Wierstra 2014)"""
    size = latent_size(info, latent_dim)
    model = models.VAE(
        priors.StandardNormal(size),
        posterior_for(info, size, posterior, network, heads),
        likelihood_for(info, size, likelihood, network, variance),
    )
    return model, objectives.ELBO(beta, samples, kl)


def beta_vae(
    info: DataInfo, *, latent_dim: int | str = "auto", beta: float = 4.0, likelihood: str = "auto",
    variance: float | str = 1.0, network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE with the rate weighted by beta, at a fixed observation variance. (Higgins et al. 2017)"""
    return vae(info, latent_dim=latent_dim, beta=beta, likelihood=likelihood, variance=variance, network=network)


def iwae(
    info: DataInfo, *, latent_dim: int | str = "auto", k: int = 8, likelihood: str = "auto",
    variance: float | str = "optimal", network: str = "auto",
) -> tuple[nn.Module, objectives.Objective]:  # fmt: skip
    """The VAE under the importance-weighted bound of k draws. (Burda, Grosse & Salakhutdinov 2016)"""
    model, _ = vae(info, latent_dim=latent_dim, likelihood=likelihood, variance=variance, network=network)
    return model, objectives.IWAE(k)


def ae(
    info: DataInfo, *, latent_dim: int | str = "auto", network: str = "auto"
) -> tuple[nn.Module, objectives.Objective]:
    """The plain autoencoder: point-mass posterior, squared error. No bound on log p(x). (Rumelhart et al. 1986)"""
    size = latent_size(info, latent_dim)
    model = models.VAE(
        priors.StandardNormal(size),
        posterior_for(info, size, "point", network, "shared"),
        likelihood_for(info, size, "normal", network, variance=1.0),
    )
    return model, objectives.ELBO(beta=0.0)


CATALOGUE: dict[str, RecipeFunction] = {"vae": vae, "beta_vae": beta_vae, "iwae": iwae, "ae": ae}


def find(name: str) -> RecipeFunction:
    """The recipe of that name, or the function ``package:function`` names; ``InputError`` lists the valid names."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    if ":" not in name:
        raise InputError(
            f"unknown recipe {name!r}; the valid ones are {', '.join(CATALOGUE)}, or package:function for your own"
        )
    package, _, attribute = name.partition(":")
    try:
        function = getattr(importlib.import_module(package), attribute)
    except ImportError as error:
        raise InputError(f"recipe {name!r}: the package {package!r} cannot be imported ({error})") from None
    except AttributeError:
        raise InputError(f"recipe {name!r}: {package!r} has no function {attribute!r}") from None
    if not callable(function):
        raise InputError(f"recipe {name!r}: {attribute!r} is not a function")
    return function


def options(function: RecipeFunction) -> dict[str, inspect.Parameter]:
    """The options of a recipe, from its signature."""
    parameters = inspect.signature(function).parameters
    return {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}


class Recipe:
    """A recipe's name and its options; takes part in scikit-learn's ``get_params``, ``set_params`` and ``clone``.

    Raises ``InputError`` for an unknown name or option when it is built, listing the valid ones.

    >>> Recipe("vae", beta=2.0).get_params()
    {'name': 'vae', 'beta': 2.0}
    """

    def __init__(self, name: str = "vae", **given: Any):
        self.name, self.given = name, given

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"name": self.name} | self.given

    def set_params(self, **given: Any) -> Recipe:
        self.name = given.pop("name", self.name)
        self.given = self.given | given
        return self

    def __repr__(self) -> str:
        return f"Recipe({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.given.items())])})"

    def build(self, info: DataInfo, **more: Any) -> tuple[nn.Module, objectives.Objective]:
        """(model, objective) for the data; options in ``more`` are those of the caller (estimator, command line)."""
        function = find(self.name)
        valid = options(function)
        chosen = more | self.given
        for name in chosen:
            if name not in valid:
                raise InputError(f"recipe {self.name!r} has no option {name!r}; the valid ones are {', '.join(valid)}")
        try:
            model, objective = function(info, **chosen)
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(f"recipe {self.name!r} refused its options: {error}") from error
        return model, objective


def catalogue() -> list[dict[str, str]]:
    """Name, what it combines, reference, of each recipe."""
    rows = []
    for name, function in CATALOGUE.items():
        text, _, reference = " ".join((function.__doc__ or "").split()).rpartition("(")
        rows.append({"name": name, "combines": text.strip(), "reference": reference.rstrip(")"),
                     "options": ", ".join(f"{p.name}={p.default}" for p in options(function).values())})  # fmt: skip
    return rows
