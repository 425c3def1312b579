"""The documentation site: `make docs` builds it into _build/html, without network access."""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS / "_ext"), str(DOCS.parent)]

import icsmdp_jax  # noqa: E402

project = "icsmdp_jax"
author = "The icsmdp_jax developers"
version = release = icsmdp_jax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "mathml",  # formulas as MathML, made when the site is built: no script, nothing loaded from elsewhere
    "pages",  # notebooks, figures, the API and the table of statements, written into generated/
    "crosslinks",  # labels such as T1 lead to the theory, names of code to their pages
]
exclude_patterns = ["_build", "_ext", "notebooks"]
html_theme = "furo"
html_title = f"icsmdp_jax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

myst_enable_extensions = ["dollarmath"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
napoleon_use_ivar = True
napoleon_use_rtype = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
suppress_warnings = ["ref.python"]  # attributes of several classes may have one name
