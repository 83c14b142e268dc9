"""Where lines break: numbers in a cell of a table stay on one line with what belongs to them ("0.7 ± 0.1",
"(1.1 to 1.3)", "2.5 x"), and so does an option ("--stream"). Long cells and long words of code are marked for the style
sheet, which gives them room on narrow screens.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.transforms import SphinxTransform

TOGETHER = re.compile(r" ?± ?\d|\d \w{1,6}(?:/s)?(?![\w.])|\([−\d.,]+ to [−\d.,]+\)")
WORDY, LONG = 25, 60  # letters of a cell
WIDEST = 32  # letters of a word of code that fits on a narrow screen, also within a list


def joined(text: str) -> str:
    """The text with no line break inside what belongs together."""
    text = TOGETHER.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)
    return re.sub(r"--(?=[a-z])", "--\N{WORD JOINER}", text)


class Breaks(SphinxTransform):
    """Joins the numbers in the cells of a page, and marks its long cells and its long words of code."""

    default_priority = 510

    def apply(self, **given: Any) -> None:
        for cell in self.document.findall(nodes.entry):
            letters = len(cell.astext())
            cell["classes"] += ["long"] if letters > LONG else ["wordy"] if letters > WORDY else []
            for text in [node for node in cell.findall(nodes.Text) if not isinstance(node.parent, nodes.literal)]:
                text.parent.replace(text, nodes.Text(joined(text.astext())))
        for code in self.document.findall(nodes.literal):
            if any(len(word) > WIDEST for word in code.astext().split()):
                code["classes"].append("long")


def setup(app: Any) -> dict[str, bool]:
    app.add_transform(Breaks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
