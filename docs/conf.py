"""The site is built by `sphinx-build -W -b html docs docs/_build`."""

import re

import keras_fdr

project = "keras_fdr"
author = "The keras_fdr authors"
release = keras_fdr.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
myst_heading_anchors = 3
# `examples/keras_io/to_notebooks.py` runs the tutorials. The site shows what it kept.
nb_execution_mode = "off"
autodoc_member_order = "bysource"
napoleon_custom_sections = [("Call arguments", "params_style"), "Reference"]
# Docstrings write names in single backticks, as Keras does.
default_role = "code"


def from_markdown(app, what, name, obj, options, lines):
    """Turns links into reStructuredText, and keeps the bars of a norm such as |θ|²."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = line.split("`")
            parts[::2] = [part.replace("|", "\\|") for part in parts[::2]]
            line = "`".join(parts)
            lines[i] = re.sub(r"\[([^]]+)\]\((http[^)]+)\)", r"`\1 <\2>`__", line)


def setup(app):
    """Connects what is above."""
    app.connect("autodoc-process-docstring", from_markdown)
