"""Words about trees of arrays and about tables, for prompts and notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any


def in_short(tree: Any) -> str:
    """``Name(field, other: 3 arrays, 12 KiB)`` of a named tuple, in one line, whatever it holds; no array is read."""
    import jax

    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / 1024
    fields = ", ".join(name for name, value in zip(tree._fields, tree, strict=True) if value is not None)
    held = f"{len(leaves)} array{'' if len(leaves) == 1 else 's'}, {size:,.3g} KiB"
    return f"{type(tree).__name__}({fields}: {held})"


def html_table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """A small table for a notebook: texts to the left, numbers to the right."""

    def cell(tag: str, text: str) -> str:
        number = text.lstrip("-")[:1].isdigit()
        return f"<{tag} style='text-align:{'right' if number else 'left'}'>{html.escape(text)}</{tag}>"

    lines = ["".join(cell("th", name) for name in head)] if head else []
    lines += ["".join(cell("td", str(entry)) for entry in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
