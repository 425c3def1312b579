"""Formulas as MathML: converted from LaTeX when the site is built, shown by the browser itself."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from math_core import LatexToMathML
from sphinx.application import Sphinx

CONVERTER = LatexToMathML()
TAG = re.compile(r"\\tag\{([^}]*)\}")
WIDE, RELATIONS = frozenset({r"\qquad"}), frozenset({"=", "+", "<", ">", r"\le", r"\ge", r"\lt", r"\gt", r"\to"})
FENCES = ("vert", "Vert", "brace", "angle", "floor", "ceil")
OPEN = frozenset({"{", "(", "[", r"\left", r"\begin"} | {rf"\l{fence}" for fence in FENCES})
CLOSE = frozenset({"}", ")", "]", r"\right", r"\end"} | {rf"\r{fence}" for fence in FENCES})
LONG = 32  # characters of LaTeX from which on a formula within a line may be broken


def mathml(latex: str, block: bool) -> str:
    """The ``<math>`` elements of a formula: several, where lines may break between them, as browsers break none.

    Raises:
      math_core.LatexError: for what the converter does not know.
    """
    tags = "".join(f'<span class="eqno">({tag})</span>' for tag in TAG.findall(latex))
    plain = " ".join(TAG.sub("", latex).split())
    pieces = cut(plain, WIDE, keep=False) if block else cut(plain, RELATIONS) if len(plain) > LONG else [plain]
    return "<wbr>".join(CONVERTER.convert_with_local_state(piece, displaystyle=block) for piece in pieces) + tags


def cut(latex: str, after: frozenset[str], keep: bool = True) -> list[str]:
    """A formula in pieces that end at certain symbols; inside of groups and fences nothing is cut."""
    found, depth = [""], 0
    for token in re.findall(r"\\[a-zA-Z]+|\\.|.", latex):
        depth += (token in OPEN) - (token in CLOSE)
        ends = depth == 0 and token in after
        found[-1] += token if keep or not ends else ""
        if ends:
            found.append("")
    pieces = [piece for piece in found if piece.strip()]
    return [f"{piece}{{}}" for piece in pieces[:-1]] + pieces[-1:]  # an operator at the end keeps its spaces


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
