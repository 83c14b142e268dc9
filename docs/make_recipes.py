"""Write the catalogue as pages, one for each family: python docs/make_recipes.py (into docs/recipes)."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from latens.recipes import CATALOGUE, Description, describe, families

FOLDER = Path(__file__).parent / "recipes"
NOTE = "<!-- written by docs/make_recipes.py from the docstrings in latens/recipes: change those -->\n\n"


def pages() -> dict[str, str]:
    """{file name: its text in MyST Markdown}."""
    found = [describe(name) for name in CATALOGUE]
    texts = {"index.md": _index(found)}
    for family, about in families().items():
        own = [each for each in found if each.family == family]
        contents = "\n".join(_wrapped(f"* [{each.name}](#{_anchor(each.name)}): {each.combines}") for each in own)
        parts = [f"{NOTE}# {family.capitalize()}", _wrapped(about), contents, *map(recipe, own)]
        texts[f"{family}.md"] = "\n\n".join(parts) + "\n"
    return texts


def recipe(found: Description) -> str:
    """The section of a recipe."""
    coded = {each.flag: re.sub(r"--[a-z-]+(?: [A-Z=]+)?", r"`\g<0>`", each.text) for each in found.options}
    terms = [f"`{each.flag} {each.default}`\n{_wrapped(f': {coded[each.flag]}')}" for each in found.options]
    return "\n\n".join([
        f"({_anchor(found.name)})=\n## {found.name}", *map(_wrapped, [found.combines, *found.paragraphs]),
        *(f"$$\n{formula}\n$$" for formula in found.formulas), _wrapped(found.when),
        "Options, with their defaults:", *terms,
        f"```sh\n{found.example}\n```", f"```py\n{found.example_in_python}\n```",
        "\n".join(_wrapped(f"* {each}") for each in found.references),
    ])  # fmt: skip


def _index(found: list[Description]) -> str:
    """The table of contents."""
    parts = [
        f"{NOTE}# Recipes",
        _wrapped("These are the published models in latens, by family. `latens recipes` lists them in a terminal, and "
                 "`latens recipes NAME` prints the description shown here; figures on Fashion-MNIST are in "
                 "[the catalogue](../catalogue.md)."),
    ]  # fmt: skip
    for family, about in families().items():
        links = [f"[{each.name}]({family}.md#{_anchor(each.name)})" for each in found if each.family == family]
        parts.append(_wrapped(f"* [{family}]({family}.md): {about} {', '.join(links)}"))
    entries = "\n".join(families())
    return "\n\n".join([*parts, f"```{{toctree}}\n:hidden:\n\n{entries}\n```"]) + "\n"


def _wrapped(text: str) -> str:
    """The text in lines of at most 120 characters; code, formulas and links are not split."""
    whole = r"`[^`]*`|\$[^$]*\$|\[[^]]*\]\(| (?=(?:[-+*]|\d+[.)]) )"  # the last would begin an item of a list
    text = re.sub(whole, lambda part: part[0].replace(" ", "\0"), text)
    rest = "  " if text.startswith(("* ", ": ")) else ""
    lines = textwrap.wrap(text, 120, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def _anchor(name: str) -> str:
    return "recipe-" + name.replace("_", "-")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
