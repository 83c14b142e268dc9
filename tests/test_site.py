"""The site's pages: all are in the navigation, the names on them exist, and broken links are found.

`make docs` builds the site and runs its examples; nothing here needs Sphinx.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from commanding import blank_page, done
from typer.main import get_command

import latens
from latens import densities, recipes
from latens.cli.main import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "extensions"))

import links  # noqa: E402
import running  # noqa: E402

PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
COMMANDS = get_command(app).commands  # type: ignore[attr-defined]
NOT_COMMANDS = ("--help", "--version", "COMMAND", "array", "standard")  # the last two are systems of a benchmark


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Navigation


def in_navigation() -> set[Path]:
    """The pages in tables of contents."""
    found = set()
    for page in PAGES:
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL):
            found |= {page.parent / f"{line}.md" for line in tree.splitlines() if line and line[0] != ":"}
    return found


def test_every_page_is_in_the_navigation():
    assert {*PAGES} - {DOCS / "index.md"} == in_navigation() - {DOCS / "examples" / "*.md"}


def test_every_package_has_a_page():
    pages = "\n".join(path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md"))
    packages = [each for each in latens.__all__ if isinstance(getattr(latens, each), ModuleType)]
    said = set(re.findall(r"\.\. automodule:: latens\.(\w+)$", pages, flags=re.MULTILINE))
    assert {*packages} - said == {"api", "errors", "plot"}  # their names are latens' own, on the page of latens
    for each in {*latens.__all__} - {*packages, "__version__", "Recipe"}:
        assert re.search(rf"\.\. auto\w+:: {each}$", pages, flags=re.MULTILINE), each


# Examples: `make docs` runs those of every page and every notebook; here, what runs them


def test_an_example_shows_what_it_prints_and_draws(tmp_path: Path):
    session = running.Session(tmp_path)
    assert session.run("python", "x = 2\nprint('a')\nx + 1\n").text == "a\n3\n"
    drawn = session.run("python", "from PIL import Image\nImage.new('L', (x, 3)).save('a.png')\n")
    assert drawn.text == "" and drawn.pictures["a.png"].startswith(b"\x89PNG")
    assert session.run("bash", "ls | tr a-z A-Z  # a comment\n").text == "A.PNG\n" and not session.run("bash", "").text
    assert "recipes" in session.run("bash", "latens \\\n    --help\n").text


@pytest.mark.parametrize(
    "language, code", [("python", "1 / 0\n"), ("bash", "latens fit nothing.csv --out run\n"), ("bash", "ls nothing\n")]
)
def test_an_example_that_fails_is_an_error(language: str, code: str, tmp_path: Path):
    with pytest.raises(RuntimeError, match=re.escape(code.strip())):
        running.Session(tmp_path).run(language, code)


# Names of commands and options


def option_names() -> set[str]:
    """The option names of all commands, recipes and kinds of density."""
    own = {each for command in COMMANDS.values() for p in command.params for each in p.opts + p.secondary_opts}
    built = [*map(recipes.options, recipes.CATALOGUE.values()), *map(densities.options, densities.KINDS)]
    return own | {f"--{each.replace('_', '-')}" for options in built for each in options} | {"--help", "--version"}


def calls(text: str) -> Iterator[list[str]]:
    """The arguments of each call of latens in the code of a page: in fences, indented blocks and between backticks."""
    text = text.replace("\\\n", " ")
    code = re.findall(r"^```[^\n]*\n(.*?)^```|^ {4,}([^\n]*\n)", text, flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^\s*(?:\w+=\S+ )?(latens [a-z-].*)$", "".join(map("".join, code)), flags=re.MULTILINE)
    for line in [*lines, *re.findall(r"`(latens [^`]+)`", text)]:
        yield shlex.split(line.replace("'", ""), comments=True)[1:]


@pytest.mark.parametrize("page", TEXTS, ids=name)
def test_commands_and_options_exist(page: Path):
    valid = option_names()
    text = page.read_text("utf-8")
    for words in calls(text):
        assert words[0] in {*COMMANDS, *NOT_COMMANDS}, f"latens {' '.join(words)}"
        for word in words[1:]:
            assert not word.startswith("--") or word.partition("=")[0] in valid, f"latens {' '.join(words)}"


# The reference


def test_every_file_of_a_run_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latens.report.write", blank_page)
    done("fit", "iris", "--out", "run", "--epochs", 1)
    done("density", "run")
    table = re.findall(r"^\| `([^`]+)` \|", (DOCS / "reference" / "run-folder.md").read_text("utf-8"), flags=re.M)
    patterns = [re.escape(each).replace("KIND", r"\w+").replace("…", ".*") for each in table]
    files = [path.relative_to("run").as_posix() for path in Path("run").rglob("*") if path.is_file()]
    assert [file for file in files if not any(re.fullmatch(pattern, file) for pattern in patterns)] == []


# Links


def test_broken_links_are_found(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.html").write_text('<h1 id="top"></h1><a href="../a.html#x"></a><a href="#top"></a>')
    (tmp_path / "a.html").write_text('<p id="x"><a href="sub/b.html#top"></a><a href="https://example.org/"></a>')
    (tmp_path / "a.css").write_text("a { background: url(data:image/png;base64,AAAA) }")
    assert links.faults(tmp_path) == []
    (tmp_path / "c.html").write_text(
        '<a href="none.html"></a><a href="a.html#y"></a><img src="none.png"><script src="https://example.org/a.js">'
    )
    (tmp_path / "b.css").write_text("@import 'https://example.org/font.css';")
    assert links.faults(tmp_path) == [
        "c.html points to none.html, which is not there", "c.html points to a.html#y, an anchor that is not there",
        "c.html points to none.png, which is not there", "c.html loads https://example.org/a.js from elsewhere",
        "b.css loads https://example.org/font.css from elsewhere",
    ]  # fmt: skip
