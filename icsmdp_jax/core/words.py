"""Short descriptions of trees of arrays, and small tables, for prompts and notebooks."""

from __future__ import annotations

import dataclasses
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


def holding(record: Any, **numbers: float) -> str:
    """``Name(q [40, 4], value [40], error_bound 2e-10)``: the shapes of a record's arrays, and some of its numbers."""
    names = getattr(record, "_fields", None) or [field.name for field in dataclasses.fields(record)]
    arrays = {name: getattr(record, name).shape for name in names if hasattr(getattr(record, name), "shape")}
    parts = [f"{name} {list(shape)}" for name, shape in arrays.items()]
    parts += [f"{name} {number:.3g}" for name, number in numbers.items()]
    return f"{type(record).__name__}({', '.join(parts)})"


def html_table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """A small table for a notebook: columns of text aligned left, columns of numbers right."""
    texts = [[str(entry) for entry in row] for row in rows]
    numbers = [any(entry.lstrip("-")[:1].isdigit() for entry in column) for column in zip(*texts, strict=True)]

    def line(tag: str, row: Sequence[str]) -> str:
        sides = ["right" if number else "left" for number in numbers]
        cells = zip(row, sides, strict=True)
        return "".join(
            f"<{tag} style='text-align:{side};padding:0.1em 0.6em'>{html.escape(text)}</{tag}>" for text, side in cells
        )

    lines = [line("th", head)] if head else []
    lines += [line("td", row) for row in texts]
    return f"<table>{''.join(f'<tr>{one}</tr>' for one in lines)}</table>"
