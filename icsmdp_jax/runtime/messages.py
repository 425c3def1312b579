"""The one scalar on the wire: a header with the id of the segment and a JSON number (docs/rfc/message.md)."""

from __future__ import annotations

import math
import re

HEADER = "IC-Segment"
LONGEST_ID, LONGEST_BODY = 200, 32  # characters
NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
ID = re.compile(f"[!-~]{{1,{LONGEST_ID}}}")


def encode(segment: str, scalar: float) -> tuple[str, bytes]:
    """Header and body of a message; the number is the shortest that reads as the same float64.

    Raises:
      ValueError: for an id that is not 1 to 200 printable ASCII characters without spaces, or no finite number.
    """
    if not ID.fullmatch(segment):
        raise ValueError(f"segment: expected 1 to {LONGEST_ID} printable ASCII characters without spaces")
    if not math.isfinite(scalar):
        raise ValueError(f"scalar = {scalar}: expected a finite number")
    return f"{HEADER}: {segment}", repr(float(scalar)).encode("ascii")


def decode(header: str, body: bytes) -> tuple[str, float]:
    """Id and scalar of a message.

    Raises:
      ValueError: in one line that repeats nothing of the message.
    """
    name, _, segment = header.partition(":")
    segment = segment.strip(" \t")
    if name.lower() != HEADER.lower() or not ID.fullmatch(segment):
        raise ValueError(f"header: expected {HEADER}: and 1 to {LONGEST_ID} printable ASCII characters without spaces")
    body = body.strip(b" \t\r\n")
    if len(body) > LONGEST_BODY or not NUMBER.fullmatch(body):
        raise ValueError(f"body: expected one JSON number of at most {LONGEST_BODY} characters")
    scalar = float(body)
    if not math.isfinite(scalar):
        raise ValueError("body: expected a finite number")
    return segment, scalar
