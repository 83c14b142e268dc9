"""Formulas as MathML, made when the site is built: a browser draws them, and no script or font is loaded."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

log = logging.getLogger(__name__)
# TeX that the converter reads otherwise or not at all, as what it reads; thin spaces around ln
REWRITTEN = (
    (r"\\([td]?frac)\s*(\w)\s*(\w)", r"\\\1{\2}{\3}"),
    (r"\\(math(?:bb|bf|cal|rm))\s*(?=(\w))\2", r"\\\1{\2}"),
    (r"\\dots(?![a-z])", r"\\ldots"),
    (r"\\middle(?![a-z])", ""),
    (r"\\([Bb]ig)(?![a-z])", r"\\\1l"),
    (r"(?<=[A-Za-z0-9})])\s*(?=\\(?:ln|log|exp|det)(?![a-z]))", r"\\,"),
    (r"\\(ln|log|exp|det|tanh|sin|cos)(?=\s*(?:[A-Za-z0-9]|\\(?!left|[Bb]ig|limits|[^a-zA-Z])))", r"\\\1\\,"),
)


def mathml(tex: str, node: nodes.Element | None, block: bool) -> str:
    """The formula as one <math> element; a warning, and its source, where it cannot be read."""
    for pattern, replacement in REWRITTEN:
        tex = re.sub(pattern, replacement, tex)
    try:
        return tex2mathml(tex, as_block=block)
    except MathError as error:
        log.warning("formula %r cannot be read: %s", tex, error, location=node)
        return f"<code>{tex}</code>"


def inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), node, block=False))
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{mathml(node.astext(), node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
