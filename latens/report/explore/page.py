"""One HTML file: facts as JSON, arrays as blocks of text, a style sheet and a script; it may load nothing else. The
script is packed like the arrays, to less than half its size, and a second script of one line unpacks it. The content
security policy allows only these two scripts, by their digests.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import math
from importlib.resources import files
from typing import Any

from latens.report.explore.packing import ArrayBlocks
from latens.report.style import THEME

UNPACK = (
    '(async()=>{const e=document.createElement("script"),b=atob(document.getElementById("script").textContent);'
    "e.text=await new Response(new Blob([Uint8Array.from(b,c=>c.charCodeAt(0))]).stream()"
    '.pipeThrough(new DecompressionStream("gzip"))).text();document.body.append(e)})()'
)


def asset(name: str) -> str:
    """The text of a file of the front end."""
    return (files("latens.report.explore") / "assets" / name).read_text("utf-8")


def page(title: str, about: dict[str, Any], blocks: ArrayBlocks, *, connect: str = "'none'") -> str:
    """The page as text.

    Args:
        title: the title in the browser's tab.
        about: the facts, in JSON's types.
        blocks: the arrays.
        connect: the addresses to which the page may send requests, as a content security policy names them.
    """
    script = asset("explore.js")
    scripts = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in (UNPACK, script)
    )
    packed = base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()
    policy = (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    facts = json.dumps(_plain(about | {"kinds": blocks.kinds}), ensure_ascii=False, separators=(",", ":"))
    texts = "".join(f'<script type="text/plain" id="block-{name}">{text}</script>\n'
                    for name, text in blocks.texts.items())  # fmt: skip
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_colours()}{asset('explore.css')}</style>\n</head>\n<body>\n"
        '<noscript>This page decodes codes with a script, which your browser does not run.</noscript>\n'
        f'<script type="application/json" id="about">{_safe(facts)}</script>\n{texts}'
        f'<script type="text/plain" id="script">{packed}</script>\n<script>{UNPACK}</script>\n'
        "</body>\n</html>\n"
    )


def _safe(text: str) -> str:
    """JSON that cannot end the element that contains it."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plain(value: Any) -> Any:
    """The value with JSON's types only: a number that is not finite becomes null."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _colours() -> str:
    """The report's palette as CSS variables, light and dark."""
    light, dark = ("".join(f"--{name}:{pair[side]};" for name, pair in THEME.items()) for side in (0, 1))
    return (
        f":root{{color-scheme:light dark;{light}}}\n"
        f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
        f":root[data-theme=light]{{color-scheme:light}}:root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
    )
