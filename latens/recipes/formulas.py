"""The formulas of docstrings, written in LaTeX, as text for a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable

SIGNS = {
    "sum": "Σ", "prod": "Π", "infty": "∞", "emptyset": "∅", "cdot": "·", "odot": "⊙", "le": "≤", "ne": "≠", "sim": "~",
    "propto": "∝", "pm": "±", "approx": "≈", "to": "→", "in": "∈", "top": "T", "nabla": "∇", "dots": "…", "left": "",
    "right": "", "alpha": "α", "beta": "β", "gamma": "γ", "epsilon": "ε", "theta": "θ", "kappa": "κ", "lambda": "λ",
    "mu": "μ", "pi": "π", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ",
}  # fmt: skip
ACCENTS = {"hat": "\u0302", "tilde": "\u0303", "bar": "\u0304"}  # placed over the letter before it
RAISED = str.maketrans("0123456789−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
BRACED = r"\{((?:[^{}]|\{[^{}]*\})*)\}"
Found = re.Match[str]


def _fraction(found: Found) -> str:
    parts = [f"({part})" if re.search(r" [−+\w]", part) and "∂" not in part else part for part in found.groups()]
    return f"({'/'.join(parts)})"


RULES: tuple[tuple[str, str | Callable[[Found], str]], ...] = (
    (r"(?<![A-Za-z])-", "−"),
    (r"\\\|", "‖"),
    (r"\\(?:mathrm|mathbb|mathcal|mathbf|text|operatorname)" + BRACED, r"\1"),
    (rf"\\sqrt{BRACED}", r"√(\1)"),
    (r"\\lVert ?| ?\\rVert", "|"),
    (r"\\partial ", "∂"),
    (rf"\\t?frac{BRACED}{BRACED}", _fraction),
    (r"\\[,;:! ]", " "),
    (r" +", " "),
    (r" ?\\quad ?", "   "),
    (r"\\(hat|tilde|bar) (\w)", lambda found: found[2] + ACCENTS[found[1]]),
    (r"\^(?:(\d)|\{(−?\d+)\})", lambda found: (found[1] or found[2]).translate(RAISED)),
    (r"\\([A-Za-z]+)", lambda found: SIGNS.get(found[1], found[1])),
    (r"([_^])\{(\w)\}", r"\1\2"),
    (r"(?<=[(\[]) +| +(?=[)\]])", ""),
)


def plain(latex: str) -> str:
    r"""A formula in LaTeX as one line of Unicode; it knows the commands that the docstrings of recipes use.

    >>> plain(r"\mathbb{E}_{q}[\ln p(x|z)] - \tfrac{1}{2}\,\beta\,\lVert z \rVert^2")
    'E_q[ln p(x|z)] − (1/2) β |z|²'
    """
    for rule, by in RULES:
        latex = re.sub(rule, by, latex)
    return latex.strip()
