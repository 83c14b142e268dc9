"""Numbers in a cell of a table stay on one line with what belongs to them: "0.7 ± 0.1", "(1.1 to 1.3)", "2.5 x"."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.transforms import SphinxTransform

TOGETHER = re.compile(r" ?± ?\d|\d \w{1,6}(?:/s)?(?![\w.])|\([−\d.,]+ to [−\d.,]+\)")


def joined(text: str) -> str:
    """The text with no line break inside what belongs together."""
    return TOGETHER.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


class Joined(SphinxTransform):
    """Joins the numbers in the cells of a page."""

    default_priority = 510

    def apply(self, **given: Any) -> None:
        for cell in self.document.findall(nodes.entry):
            for text in [node for node in cell.findall(nodes.Text) if not isinstance(node.parent, nodes.literal)]:
                text.parent.replace(text, nodes.Text(joined(text.astext())))


def setup(app: Any) -> dict[str, bool]:
    app.add_transform(Joined)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
