"""Formulas as MathML, made when the site is built: a browser draws them, and no script is loaded.

A browser takes the heights of subscripts, superscripts and limits of sums from its font for mathematics. If none is
installed, it hardly lowers a subscript, and limits touch their sum. So the site has its own font for these heights
only, which contains no letters.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

log = logging.getLogger(__name__)
# TeX that the converter misreads or cannot read, and what replaces it; thin spaces around ln
REWRITTEN = (
    (r"\\([td]?frac)\s*(\w)\s*(\w)", r"\\\1{\2}{\3}"),
    (r"\\(math(?:bb|bf|cal|rm))\s*(?=(\w))\2", r"\\\1{\2}"),
    (r"\\dots(?![a-z])", r"\\ldots"),
    (r"\\middle(?![a-z])", ""),
    (r"\\([Bb]ig)(?![a-z])", r"\\\1l"),
    (r"(?<=[A-Za-z0-9})])\s*(?=\\(?:ln|log|exp|det)(?![a-z]))", r"\\,"),
    (r"\\(ln|log|exp|det|tanh|sin|cos)(?=\s*(?:[A-Za-z0-9]|\\(?!left|[Bb]ig|limits|[^a-zA-Z])))", r"\\\1\\,"),
)
# a bar with a superscript would be stretched, and would not match its partner
FENCE = re.compile(r'<mo((?: class="\w+")?)>‖</mo>')
# an accent would be drawn across its letter, and the subscript of both below it
ACCENT = re.compile(
    r"<m(?:over|underover)[^>]*>\s*<mi>([A-Za-z])</mi>((?:(?!<m\w*over).)*?)"
    r'<mo stretchy="false">([ˆˉ~])</mo>\s*</m(?:over|underover)>', re.DOTALL,
)  # fmt: skip
COMBINING = {"ˆ": "\N{COMBINING CIRCUMFLEX ACCENT}", "ˉ": "\N{COMBINING MACRON}", "~": "\N{COMBINING TILDE}"}
SCRIPTS = {  # in thousandths of the font's size
    "SubscriptShiftDown": 210, "SubscriptTopMax": 370, "SubscriptBaselineDropMin": 160, "SuperscriptShiftUp": 360,
    "SuperscriptShiftUpCramped": 252, "SuperscriptBottomMin": 120, "SuperscriptBaselineDropMax": 230,
    "SubSuperscriptGapMin": 150, "SuperscriptBottomMaxWithSubscript": 380, "SpaceAfterScript": 20,
    "UpperLimitGapMin": 110, "UpperLimitBaselineRiseMin": 200, "LowerLimitGapMin": 130,
    "LowerLimitBaselineDropMin": 500, "UnderbarVerticalGap": 150,
}  # fmt: skip
PLAIN = ("Script", "DelimitedSubFormula", "DisplayOperatorMin", "RadicalDegree")  # constants that are bare numbers


def accented(found: re.Match[str]) -> str:
    """An italic letter with a combining accent, and its subscript."""
    letter, below, accent = found.groups()
    italic = "\N{PLANCK CONSTANT}" if letter == "h" else chr(0x1D434 + ord(letter) - (65 if letter.isupper() else 71))
    whole = f"<mi>{italic}{COMBINING[accent]}</mi>"
    return f"<msub>{whole}{below}</msub>" if below.strip() else whole


def mathml(tex: str, node: nodes.Element | None, block: bool) -> str:
    """The formula as one <math> element; if it cannot be read, a warning and its source."""
    for pattern, replacement in REWRITTEN:
        tex = re.sub(pattern, replacement, tex)
    try:
        found = FENCE.sub(r'<mo\1 stretchy="false">‖</mo>', tex2mathml(tex, as_block=block))
        return ACCENT.sub(accented, found)
    except MathError as error:
        log.warning("formula %r cannot be read: %s", tex, error, location=node)
        return f"<code>{tex}</code>"


def inline(writer: Any, node: nodes.math) -> None:
    after = node.next_node(descend=False, siblings=True)
    ends = isinstance(after, nodes.Text) and after.astext()[:1] in (".", ",", ";", ":", ")", "?")
    joined = "\N{WORD JOINER}" if ends else ""  # no line begins with the sign that follows a formula
    writer.body.append(mathml(node.astext(), node, block=False) + joined)
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{mathml(node.astext(), node, block=True)}</div>')
    raise nodes.SkipNode


def font() -> Any:
    """A font with only a blank, and the heights of subscripts, superscripts and limits."""
    from fontTools.fontBuilder import FontBuilder  # comes with matplotlib
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from fontTools.ttLib import newTable
    from fontTools.ttLib.tables import otTables

    made, names = FontBuilder(1000, isTTF=True), [".notdef", "space"]
    made.setupGlyphOrder(names)
    made.setupCharacterMap({ord(" "): "space"})
    made.setupGlyf({name: TTGlyphPen(None).glyph() for name in names})
    made.setupHorizontalMetrics(dict.fromkeys(names, (300, 0)))
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": "scripts", "styleName": "Regular"})
    made.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWinAscent=800, usWinDescent=200, sxHeight=450, version=4)
    made.setupPost()
    constants, table = otTables.MathConstants(), otTables.MATH()
    for entry in constants.getConverters():
        value: Any = {"ScriptPercentScaleDown": 75, "ScriptScriptPercentScaleDown": 60}.get(entry.name, 0)
        if not entry.name.startswith(PLAIN):
            value = otTables.MathValueRecord()
            value.Value, value.DeviceTable = SCRIPTS.get(entry.name, 0), None
        setattr(constants, entry.name, value)
    table.Version, table.MathConstants = 0x10000, constants
    table.MathGlyphInfo, table.MathVariants = otTables.MathGlyphInfo(), otTables.MathVariants()
    for part in (table.MathGlyphInfo, table.MathVariants):  # empty, but a browser ignores a table that lacks them
        for entry in part.getConverters():
            setattr(part, entry.name, [] if entry.repeat else 0 if entry.name.startswith("Min") else None)
    made.font["MATH"] = newTable("MATH")
    made.font["MATH"].table = table
    return made


def write_font(app: Any, failed: Exception | None) -> None:
    """Write the font next to the style sheet that names it."""
    if failed is None and app.builder.format == "html":
        font().save(Path(app.outdir, "_static", "scripts.ttf"))


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", write_font)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
