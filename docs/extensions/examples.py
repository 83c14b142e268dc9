"""Put the output of each example of a page below it when the site is built; a failing example fails the build.

A notebook is a page: its cells are Markdown and examples.
"""

from __future__ import annotations

import base64
import importlib
import json
import tempfile
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from running import Session
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

log = logging.getLogger(__name__)
LANGUAGES = ("bash", "python")
APART = ("story",)  # pages whose code is run by a separate script, for their pictures and numbers


class Outputs(SphinxTransform):
    """Runs the examples of a page in order, in a separate folder."""

    default_priority = 500

    def apply(self, **given: Any) -> None:
        found = [node for node in self.document.findall(nodes.literal_block) if node.get("language") in LANGUAGES]
        if not found or self.env.docname in APART:
            return
        with tempfile.TemporaryDirectory() as folder:
            session = Session(Path(folder).resolve())
            for node in found:
                try:
                    output = session.run(node["language"], node.astext() + "\n")
                except RuntimeError as error:
                    log.warning("an example fails:\n%s", error, location=node)
                    return
                node.parent[node.parent.index(node) + 1 : node.parent.index(node) + 1] = shown(output)


def shown(output: Any) -> list[nodes.Node]:
    """Text and pictures as nodes; pictures are embedded in the page."""
    parts: list[nodes.Node] = []
    if text := output.text.strip("\n"):
        block = nodes.literal_block(text, text, language="text")
        parts.append(nodes.container("", block, classes=["printed"]))
    for name, content in output.pictures.items():
        address = base64.b64encode(content).decode()
        width = int.from_bytes(content[16:20], "big")  # of the PNG, in pixels
        if name.startswith("figure "):  # pictures of matplotlib: inverted on dark pages, legible on narrow ones
            kind, size = "drawn figure", f' style="min-width: {round(0.55 * width)}px"'
        else:  # small pictures are enlarged
            kind, size = "drawn", "" if width >= 400 else f' width="{width * (640 // width)}"'
        html = f'<div class="{kind}"><img alt="{escape(name)}"{size} src="data:image/png;base64,{address}"></div>'
        parts.append(nodes.raw("", html, format="html"))
    return parts


class Notebook(MystParser):
    """A notebook as Markdown, with its code as examples; saved outputs are left out."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        cells = []
        for cell in json.loads(inputstring)["cells"]:
            text = "".join(cell["source"])
            cells.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        super().parse("\n\n".join(cells), document)


def setup(app: Any) -> dict[str, bool]:
    importlib.import_module("latens.api.estimator")  # once, not in each process that reads pages
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(Notebook)
    app.add_transform(Outputs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
