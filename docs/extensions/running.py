"""The examples of a page: they are found in its Markdown or notebook, and run in order, in one folder and one Python
scope.

A code block marked ``bash`` or ``python`` is an example; a block that should not run has another mark.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^```(bash|python)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"[|<>;&*$]")


@dataclass
class Output:
    """The text that an example printed, and the pictures (PNG) that it drew or wrote."""

    text: str = ""
    pictures: dict[str, bytes] = field(default_factory=dict)


def examples(path: Path) -> list[tuple[str, str]]:
    """(language, code) of each example of a page."""
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return FENCE.findall(text)
    return [("python", "".join(cell["source"])) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


class Session:
    """Runs the examples of one page; raises ``RuntimeError`` with the printed text if one fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scope: dict[str, Any] = {"__name__": "__main__"}

    def run(self, language: str, code: str) -> Output:
        out = io.StringIO()
        before = self._pictures()
        with self._inside(out):
            try:
                getattr(self, f"_{language}")(code, out)
            except (Exception, SystemExit) as error:
                raise RuntimeError(f"{code}{out.getvalue()}{type(error).__name__}: {error}") from error
        after = self._pictures()
        written = {name: after[name] for name in after if after[name] != before.get(name)}
        text = out.getvalue().replace(f"{self.folder}{os.sep}", "")
        return Output(text, {name: Path(self.folder, name).read_bytes() for name in written} | _figures())

    @contextlib.contextmanager
    def _inside(self, out: io.StringIO) -> Iterator[None]:
        def show(message: Any, category: type[Warning], *place: Any) -> None:
            print(f"{category.__name__}: {message}", file=out)

        here, path = Path.cwd(), list(sys.path)
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), warnings.catch_warnings():
                warnings.simplefilter("once")
                warnings.showwarning = show
                yield
        finally:
            os.chdir(here)
            sys.path[:] = path

    def _pictures(self) -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in self.folder.glob("*.png")}

    def _python(self, code: str, out: io.StringIO) -> None:
        """As a notebook does: the value of a last expression is shown, unless a semicolon ends it."""
        tree = ast.parse(code)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "example", "exec"), self.scope)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "example", "eval"), self.scope)
            if value is not None and not code.rstrip().endswith(";"):
                print(repr(value), file=out)

    def _bash(self, code: str, out: io.StringIO) -> None:
        """Plain calls of latens in this process, which has imported torch; other lines in a shell."""
        from latens.cli.main import main

        for line in code.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["latens"] and not SHELL.search(line.partition("#")[0]):
                if status := main(words[1:]):
                    raise RuntimeError(f"exit status {status}")
            elif words:
                path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
                done = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                      env=os.environ | {"PATH": path})  # fmt: skip
                out.write(done.stdout)
                done.check_returncode()


def _figures() -> dict[str, bytes]:
    """The open figures of matplotlib, which are closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    found = {}
    for number in pyplot.get_fignums() if pyplot else ():
        file = io.BytesIO()
        pyplot.figure(number).savefig(file, format="png", dpi=120, bbox_inches="tight")
        found[f"figure {number}"] = file.getvalue()
        pyplot.close(number)
    return found
