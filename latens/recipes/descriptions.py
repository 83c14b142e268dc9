"""The description of a recipe, read from its docstring and signature: for the terminal, for JSON, and for the docs.

A recipe's docstring has, in this order: one sentence, paragraphs, ``.. math::``, a paragraph that begins with "Use it
when", ``Args:`` with the recipe's own options, ``References:``. Options that many recipes share are described in
``SHARED``, and those of hyperbolic codes in ``HYPERBOLIC``.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from latens.recipes.catalogue import (
    CATALOGUE,
    GROUPS,
    RecipeFunction,
    family,
    find,
    installed,
    of_package,
    options,
)
from latens.recipes.formulas import plain

WIDTH = 88  # width of the text in a terminal, in characters

SHARED = {
    "latent_dim": """Dimensions of z, a whole number from 1 to 65,536; auto: the smaller of 16 and the number of
        columns.""",
    "likelihood": """p(x|z) of an array: auto (from the values seen), normal, bernoulli, continuous_bernoulli,
        categorical, discretized_logistic, poisson, negative_binomial or zero_inflated_negative_binomial. In a table
        each column has its own likelihood (--column NAME=LIKELIHOOD).""",
    "variance": """Observation variance c of a normal likelihood, in squared units of the standardised data: a number
        above 0, optimal (the mean squared error, in closed form) or learned (by gradient). Other likelihoods have
        none.""",
    "network": """Encoder and decoder: auto (conv for images and sequences of at least 12 pixels or steps, otherwise
        mlp), mlp, residual, conv or linear.""",
    "missing": """For a table with gaps: mar (missing at random; the bound counts the observed cells) or mnar
        (also models which cells are missing).""",
    "beta": "Weight of the rate, a number from 0; 1 is the ELBO.",
    "k": "Draws of z for each row, a whole number from 1; time and memory grow with it.",
}
HYPERBOLIC = {
    "curvature": "c; the ball has curvature -c and radius 1/√c; a number from 1e-6 to 1e6.",
    "prior_scale": """s, the standard deviation of the prior in hyperbolic distance, a number from 1e-6 to the largest
        at which floats can still tell codes from the boundary; auto: 1, or less in many dimensions.""",
    "features": "Hyperplanes of the first layer of the decoder, a whole number from 1 to 100,000.",
}
SHARED, HYPERBOLIC = (
    {name: " ".join(text.split()) for name, text in each.items()} for each in (SHARED, HYPERBOLIC)
)


@dataclass(frozen=True)
class Option:
    """An option of a recipe: its name in Python, its default, and its meaning with unit and range."""

    name: str
    default: Any
    text: str

    @property
    def flag(self) -> str:
        """The option on the command line."""
        return "--" + self.name.replace("_", "-")


@dataclass
class Description:
    """A recipe in words: what it combines, paragraphs, formulas (LaTeX), when to use it, options, references."""

    name: str
    family: str
    combines: str
    paragraphs: list[str] = field(default_factory=list)
    formulas: list[str] = field(default_factory=list)
    when: str = ""
    options: list[Option] = field(default_factory=list)
    references: list[str] = field(default_factory=list)

    @property
    def example(self) -> str:
        """A command that fits the recipe."""
        condition = " --condition label" if self.family == "labels" else ""
        own = [f" {each.flag} {each.default:g}" for each in self._own()[:1]]
        return f"latens fit digits --recipe {self.name}{condition}{''.join(own)} --out run"

    @property
    def example_in_python(self) -> str:
        """Python code that fits the recipe to data X."""
        own = [f", {each.name}={each.default!r}" for each in self._own()[:1]]
        recipe = f'latens.Recipe("{self.name}"{own[0]})' if own else f'"{self.name}"'
        condition = ', condition="label"' if self.family == "labels" else ""
        return f"latens.VAE(recipe={recipe}{condition}).fit(X)"

    def _own(self) -> list[Option]:
        """Options with a number as default that are specific to this recipe."""
        numbers = [each for each in self.options if isinstance(each.default, int | float) and each.name != "latent_dim"]
        return [each for each in numbers if each.text != SHARED.get(each.name)] or numbers

    def text(self) -> str:
        """The whole description for a terminal, with formulas in Unicode."""
        lines = [f"{self.name} ({self.family})", "", *_wrapped(self.combines)]
        for paragraph in self.paragraphs:
            lines += ["", *_wrapped(paragraph)]
        lines += ["", *(f"    {plain(formula)}" for formula in self.formulas)] if self.formulas else []
        lines += ["", *_wrapped(self.when)] if self.when else []
        lines += ["", "Options"]
        for option in self.options:
            lines += [f"  {option.flag} ({option.default})", *_wrapped(option.text, "      ")]
        lines += ["", "Example", f"  {self.example}", f"  {self.example_in_python}"]
        lines += ["", "References"] if self.references else []
        for reference in self.references:
            lines += _wrapped(reference, "  ", "    ")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The whole description as a mapping of plain values; ``reference`` joins the references."""
        more = {"example": self.example, "reference": "; ".join(self.references)}
        return asdict(self) | more | {"plain": [plain(formula) for formula in self.formulas]}


def _wrapped(text: str, first: str = "", rest: str | None = None) -> list[str]:
    rest = first if rest is None else rest
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def describe(name: str) -> Description:
    """The description of a recipe from the catalogue, or of your own (``package:function``).

    An unknown name raises ``InputError``, with the nearest names.

    >>> describe("beta_vae").options[1].name
    'beta'
    """
    function = find(name)
    found = Description(name, family(name), "")
    own: dict[str, str] = {}
    for kind, block in _blocks(function):
        words = " ".join(block.split())
        match kind:
            case "math":
                found.formulas.append(words)
            case "args":
                own = {option: text for option, _, text in (each.partition(": ") for each in _entries(block))}
            case "references":
                found.references = [each.removeprefix("* ") for each in _entries(block)]
            case "when":
                found.when = words
            case _ if not found.combines:
                found.combines = words
            case _:
                found.paragraphs.append(words)
    found.options = [
        Option(each, parameter.default, own.get(each, (SHARED | HYPERBOLIC).get(each, "")))
        for each, parameter in options(function).items()
    ]
    return found


def _blocks(function: RecipeFunction) -> Iterator[tuple[str, str]]:
    """(kind, text) of the parts of a docstring, which blank lines separate."""
    in_math = False
    for block in inspect.cleandoc(function.__doc__ or "").split("\n\n"):
        head, _, body = block.partition("\n")
        in_math = block.startswith(".. math::") or (in_math and block.startswith("    "))
        if in_math:
            if text := block.removeprefix(".. math::").strip():
                yield "math", text
        elif head in ("Args:", "References:"):
            yield head[:-1].lower(), textwrap.dedent(body)
        else:
            yield "when" if block.startswith("Use it when") else "prose", block


def _entries(body: str) -> list[str]:
    """The entries of a section; each entry begins at the margin."""
    entries: list[str] = []
    for line in body.splitlines():
        if line[:1].isspace():
            entries[-1] += " " + line.strip()
        else:
            entries.append(line.strip())
    return entries


def families() -> dict[str, str]:
    """{family: what its recipes have in common}, in the order of the catalogue."""
    docs = {group: importlib.import_module(f"latens.recipes.{group}").__doc__ or "" for group in GROUPS}
    return {group: " ".join(doc.split("\n\n")[0].split()) for group, doc in docs.items()}


def listing() -> str:
    """The catalogue as a list: one line per recipe, grouped by family."""
    found, lines = [describe(name) for name in CATALOGUE], []
    for name, about in families().items():
        lines += ["", f"{name}: {about}"]
        lines += [f"  {each.name:<24}{each.combines}" for each in found if each.family == name]
    others = [(name, of_package(point)) for name, points in installed().items() for point in points]
    if others:
        lines += ["", "installed packages: recipes of your own, imported only if you name them"]
        lines += [f"  {name:<24}of the package {package}" for name, package in others]
    more = "`latens recipes NAME` explains one: formula, options, when to use it, references"
    return "\n".join([*lines[1:], "", more])
