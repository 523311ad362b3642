"""Sphinx's settings for the site; ``docs/site/build_site.py`` lays the pages out beside it."""

import importlib.metadata
import re

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

import flows.pipelines.deployments  # noqa: F401  # Prefect's models cannot be made within autodoc

project = "Modelmill"
author = "the authors of Modelmill"
copyright = "2026, the authors of Modelmill. Apache-2.0"
release = importlib.metadata.version("modelmill")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
]
root_doc = "index"
exclude_patterns = ["docs/site/**", "examples/own_pages/pages/**"]  # the latter: input of a run

# Anchors as GitHub makes them, down to the headings that pages link to.
myst_heading_anchors = 4
myst_enable_extensions = ["attrs_block"]

# Docstrings write code between single or double backticks, whichever.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
autodoc_default_options = {"members": True}
autodoc_mock_imports = ["presidio_analyzer", "ray", "spacy", "tensorrt"]

html_theme = "furo"
html_title = f"Modelmill {release}"
html_static_path = ["docs/site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
# Furo's own fonts are the system's; it has a light and a dark palette and a search.
pygments_style = "friendly"
pygments_dark_style = "monokai"

LAID_OUT = re.compile(r"^\s|\S {3,}\S")
"""A line of a paragraph that is laid out by hand: indented, or with columns."""


def read_docstring(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Read Google's sections, and keep paragraphs of modules that are laid out as they stand.

    The extension ``napoleon`` would also take the first words of an attribute's text for its type.

    Args:
        app: The builder.
        what: Kind of the object.
        name: Its full name.
        obj: The object.
        options: Options of the directive.
        lines: Lines of its docstring, replaced.
    """
    if what == "module":
        paragraphs = re.split(r"\n{2,}", "\n".join(lines).strip())
        lines[:] = "\n\n".join(map(_keep_layout, paragraphs)).splitlines()
    elif what not in ("attribute", "data", "property"):
        config = Config(napoleon_numpy_docstring=False)
        lines[:] = GoogleDocstring(list(lines), config, app, what, name, obj, options).lines()


def _keep_layout(paragraph: str) -> str:
    """Paragraph as a literal block, where any of its lines is laid out."""
    lines = paragraph.splitlines()
    if not any(map(LAID_OUT.search, lines)):
        return paragraph
    return "::\n\n" + "\n".join(f"    {line}" for line in lines)


def setup(app: Sphinx) -> None:
    """Read docstrings by the conventions of this code."""
    app.connect("autodoc-process-docstring", read_docstring)
