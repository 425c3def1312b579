"""Bytes as disks, editors and transfers spoil them."""

from __future__ import annotations

from hypothesis import strategies as st


def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with up to three changes, half of them at an end, where archives keep their directory."""
    for _ in range(draw(st.integers(0, 3))):
        end = len(content)
        where = draw(st.integers(0, end))
        if draw(st.booleans()):
            where = max(end - where % 400, 0) if draw(st.booleans()) else min(where % 400, end)
        kind = draw(st.sampled_from(("flip", "set", "cut", "drop", "insert", "repeat", "zero")))
        if kind == "flip" and where < end:
            content = content[:where] + bytes([content[where] ^ 1 << draw(st.integers(0, 7))]) + content[where + 1 :]
        elif kind == "set":
            content = content[:where] + draw(st.binary(max_size=8)) + content[where + 8 :]
        elif kind == "cut":
            content = content[:where]
        elif kind == "drop":
            content = content[:where] + content[where + draw(st.integers(1, 64)) :]
        elif kind == "insert":
            content = content[:where] + draw(st.binary(max_size=16)) + content[where:]
        elif kind == "repeat":
            content = content[:where] + content[max(where - 30, 0) :]
        elif kind == "zero":
            content = content[:where] + bytes(32) + content[where + 32 :]
    return content
