"""How the pages become HTML: `python -m sphinx -W -b html docs docs/_build`."""

from __future__ import annotations

import umfuse

project = "umfuse"
author = "The umfuse authors"
copyright = "The umfuse authors"
release = umfuse.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
default_role = "code"

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are described once, with their class

html_theme = "furo"
html_title = f"umfuse {release}"
html_show_sourcelink = False
