"""Formulas as MathML: converted from LaTeX when the site is built, shown by the browser itself."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from math_core import LatexToMathML
from sphinx.application import Sphinx

CONVERTER = LatexToMathML()
TAG = re.compile(r"\\tag\{([^}]*)\}")


def mathml(latex: str, block: bool) -> str:
    """The ``<math>`` elements of a formula: one, or one for each part of a block, so that lines can break between them.

    Raises:
      math_core.LatexError: for what the converter does not know.
    """
    tags = "".join(f'<span class="eqno">({tag})</span>' for tag in TAG.findall(latex))
    plain = " ".join(TAG.sub("", latex).split())
    pieces = parts(plain) if block else [plain]
    return "".join(CONVERTER.convert_with_local_state(piece, displaystyle=block) for piece in pieces) + tags


def parts(latex: str) -> list[str]:
    """A formula cut at the wide spaces that are in no group."""
    found = [""]
    for piece in re.split(r"(\\qquad)", latex):
        inside = found[-1].count("{") != found[-1].count("}") or found[-1].count("\\left") != found[-1].count("\\right")
        if piece == "\\qquad" and not inside:
            found.append("")
        else:
            found[-1] += piece
    return [piece for piece in found if piece.strip()]


def inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(mathml(node.astext(), block=False))
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="formula">{mathml(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode


def from_github(_: Sphinx, __: str, source: list[str]) -> None:
    """GitHub's way to protect a formula from Markdown, dollar and backtick, becomes plain dollars."""
    source[0] = re.sub(r"\$`(.+?)`\$", r"$\1$", source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("source-read", from_github)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
