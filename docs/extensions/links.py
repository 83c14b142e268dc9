"""A check after the build: every link between pages leads to an existing page and anchor, and nothing on a page is
loaded from elsewhere. Links to other sites are not followed."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}


class Page(HTMLParser):
    """The anchors of a page, its links, and the files that it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if (address := given.get(LOADED.get(tag, ""))) is not None:
            self.loads.append(address)


def faults(folder: Path) -> list[str]:
    """A sentence for each broken link of the pages in a folder, and for each file loaded from elsewhere."""
    pages = {path.resolve(): Page(path) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        place = path.relative_to(folder.resolve())
        for address in page.links + page.loads:
            parts = urlsplit(address)
            if parts.scheme == "data" or (address in page.links and (parts.scheme or parts.netloc)):
                continue
            if parts.scheme or parts.netloc:
                found.append(f"{place} loads {address} from elsewhere")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists():
                found.append(f"{place} points to {address}, which is not there")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{place} points to {address}, an anchor that is not there")
    for style in folder.rglob("*.css"):
        loaded = re.findall(r"(?:@import|url\()\s*['\"]?((?:https?:)?//[^'\")\s]+)", style.read_text("utf-8"))
        found += [f"{style.name} loads {address} from elsewhere" for address in loaded]
    return found


def check(app: Any, error: Exception | None) -> None:
    from sphinx.util import logging

    for fault in faults(Path(app.outdir)) if error is None and app.builder.format == "html" else ():
        logging.getLogger(__name__).warning("%s", fault)


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
