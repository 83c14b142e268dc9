"""Write the catalogue as pages, one for each family: python docs/make_recipes.py (into docs/recipes)."""

from __future__ import annotations

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
        contents = "\n".join(f"* [{each.name}](#{_anchor(each.name)}): {each.combines}" for each in own)
        parts = [f"{NOTE}# {family.capitalize()}", about, contents, *map(recipe, own)]
        texts[f"{family}.md"] = "\n\n".join(parts) + "\n"
    return texts


def recipe(found: Description) -> str:
    """The section of a recipe."""
    terms = [f"`{each.flag} {each.default}`\n: {each.text}" for each in found.options]
    return "\n\n".join([
        f"({_anchor(found.name)})=\n## {found.name}", found.combines, *found.paragraphs,
        *(f"$$\n{formula}\n$$" for formula in found.formulas), found.when,
        "Options, with their defaults:", *terms,
        f"```sh\n{found.example}\n```", f"```py\n{found.example_in_python}\n```",
        "\n".join(f"* {each}" for each in found.references),
    ])  # fmt: skip


def _index(found: list[Description]) -> str:
    """The table of contents."""
    parts = [
        f"{NOTE}# Recipes",
        "These are the published models in latens, by family. `latens recipes` lists them in a terminal, and "
        "`latens recipes NAME` prints the description shown here; figures on Fashion-MNIST are in "
        "[the catalogue](../catalogue.md).",
    ]
    for family, about in families().items():
        links = [f"[{each.name}]({family}.md#{_anchor(each.name)})" for each in found if each.family == family]
        parts.append(f"* [{family}]({family}.md): {about} {', '.join(links)}")
    entries = "\n".join(families())
    return "\n\n".join([*parts, f"```{{toctree}}\n:hidden:\n\n{entries}\n```"]) + "\n"


def _anchor(name: str) -> str:
    return "recipe-" + name.replace("_", "-")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
