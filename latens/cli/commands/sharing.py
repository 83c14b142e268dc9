"""``latens push`` and ``latens pull``: put runs on a hub of models, and get them."""

from __future__ import annotations

from latens.cli.commands.answer import Answer
from latens.runs import sharing


def push(folder: str, name: str, *, public: bool) -> Answer:
    """Put a run on the hub."""
    found = sharing.push(folder, name, public=public)
    return Answer(f"wrote {found['url']}: {', '.join(found['files'])}", found)


def pull(name: str, out: str) -> Answer:
    """Get a run from the hub."""
    files = sharing.pull(name, out)
    return Answer(f"wrote {out}: {', '.join(files)}", {"out": out, "files": files})
