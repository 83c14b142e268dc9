"""References in docstrings: names in the reference become links, other names of latens and of other libraries become
plain text, and a name of latens that does not exist gives a warning."""

from __future__ import annotations

import importlib
import re
from functools import reduce
from typing import Any

from docutils import nodes
from numpy.typing import ArrayLike
from sphinx.util.typing import stringify_annotation


def exists(dotted: str) -> bool:
    """Whether ``latens.a.b`` is a module or an attribute of one."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:cut]))
            reduce(getattr, parts[cut:], module)
        except (ImportError, AttributeError):
            continue
        return True
    return False


def missing(app: Any, env: Any, node: nodes.Element, content: nodes.Node) -> nodes.Node | None:
    """Plain text for an unresolved Python name; None for a name under latens that does not exist."""
    target = node["reftarget"]
    known = node.get("refdomain") == "py" and (not target.startswith("latens.") or exists(target))
    return content if known else None


SHORT = {  # what is shown in signatures: what Sphinx would show, or could not parse
    "...": "<factory>",
    "~numpy.typing.ArrayLike": re.escape(stringify_annotation(ArrayLike, "smart")),
    r"~numpy.typing.NDArray[\1]": r"~numpy\.ndarray\[tuple\[~typing\.Any, \.\.\.\], ~numpy\.dtype\[([~\w.]+)\]\]",
}


def signature(app: Any, what: str, name: str, found: Any, options: Any, given: str, returned: str) -> Any:
    """Show no arguments for a class without arguments, whatever torch's base class takes, numpy's types by name, and
    defaults that a function makes as an ellipsis."""
    if what == "class" and re.fullmatch(r"\(\*args(: [\w~.]+)?, \*\*kwargs(: [\w~.]+)?\)", given or ""):
        return "()", returned
    for short, long in SHORT.items():
        given, returned = (text and re.sub(long, short, text) for text in (given, returned))
    return given, returned


def setup(app: Any) -> dict[str, bool]:
    app.connect("missing-reference", missing)
    app.connect("autodoc-process-signature", signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
