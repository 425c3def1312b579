"""Links that no one has to write: labels of statements lead to the theory, dotted names of code to their pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from statements import anchor, label_of_heading, labels, public_name, statements

SKIPPED = (nodes.title, nodes.literal, nodes.literal_block, nodes.reference, nodes.math, nodes.math_block, nodes.raw)


def name_sections(app: Sphinx, doctree: nodes.document) -> None:
    """Every entry of the theory can be reached as ``theory.html#t1-1``."""
    if app.env.current_document.docname == "theory":
        for section in doctree.findall(nodes.section):
            label = label_of_heading(section[0].astext())
            if label:
                section["ids"].insert(0, anchor(label))


def link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    known = set(statements())
    objects = app.env.domains["py"].data["objects"]

    def uri(target: str, fragment: str) -> str:
        return app.builder.get_relative_uri(docname, target) + f"#{fragment}"

    for node in list(doctree.findall(nodes.Text)):
        if not any(isinstance(parent, SKIPPED) for parent in parents(node)):
            pieces = list(labelled(node.astext(), known))
            if len(pieces) > 1:
                node.parent.replace(
                    node,
                    [
                        nodes.reference("", text, refuri=uri("theory", anchor(text)), internal=True, classes=["label"])
                        if is_label
                        else nodes.Text(text)
                        for text, is_label in pieces
                    ],
                )
    for literal in list(doctree.findall(nodes.literal)):
        entry = objects.get(public_name(literal.astext()))
        inside = any(isinstance(parent, (nodes.reference, nodes.title)) for parent in parents(literal))
        if entry is not None and not inside:
            reference = nodes.reference("", "", refuri=uri(entry.docname, entry.node_id), internal=True)
            literal.replace_self(reference)
            reference += literal


def labelled(text: str, known: set[str]) -> Iterator[tuple[str, bool]]:
    """The text in pieces, and whether a piece is the label of a statement."""
    end = 0
    for start, stop in labels(text):
        if text[start:stop] in known:
            yield text[end:start], False
            yield text[start:stop], True
            end = stop
    yield text[end:], False


def parents(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


def plain(_: Sphinx, __: str, ___: str, ____: Any, _____: Any, lines: list[str]) -> None:
    """What docstrings say outside of literals is text: ``Q*`` and ``||.||`` are no markup."""
    example = False
    for index, line in enumerate(lines):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if not example and not line.lstrip().startswith(".. "):
            parts = re.split(r"(``.*?``|`[^`]+`)", line)
            parts[::2] = [re.sub(r"(?<!\\)([*|]|\w_(?=\W|$))", r"\\\1", part) for part in parts[::2]]
            lines[index] = "".join(re.sub(r"\\(\w)_", r"\1\\_", part) for part in parts)


def ours(_: Sphinx, __: str, name: str, member: Any, skip: bool, ___: Any) -> bool | None:
    """Fields of named tuples and what libraries add to dataclasses need no entries: attributes are listed above."""
    module = getattr(member, "__module__", None)
    if type(member).__name__ == "_tuplegetter" or name in {"tree_flatten", "tree_unflatten"}:
        return True
    if isinstance(module, str) and not module.startswith(("icsmdp_jax", "bound_validation")):
        return True
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", name_sections)
    app.connect("doctree-resolved", link)
    app.connect("autodoc-process-docstring", plain, priority=600)
    app.connect("autodoc-skip-member", ours)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
