"""How the site is built: `make docs`. Nothing on a page is loaded from elsewhere, and every warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

import latens

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "latens"
author = "The latens authors"
project_copyright = "the latens authors, Apache-2.0"
version = release = latens.__version__

extensions = [
    "sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser",
    "formulas", "breaks", "examples", "generated", "references", "links",
]  # fmt: skip
exclude_patterns = ["_build", "extensions"]
nitpicky = True

# Markdown
myst_enable_extensions = ["deflist", "dollarmath", "fieldlist"]
myst_dmath_allow_digits = False  # "$5 and $6" is not a formula
myst_dmath_allow_space = False
myst_heading_anchors = 4
smartquotes = False  # quotes in a help text are shown as typed

# Docstrings
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False  # torch's docstrings, which describe how modules are called
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 160
add_module_names = False
toc_object_entries_show_parents = "hide"

# Pages
html_theme = "furo"
html_title = "latens"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
