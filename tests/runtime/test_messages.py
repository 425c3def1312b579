"""The wire format of docs/rfc/message.md."""

from __future__ import annotations

import json
import math

import pytest

from icsmdp_jax.runtime.messages import decode, encode


@pytest.mark.parametrize("scalar", [0.0, -0.0, 1.25, -1e-300, 1.7976931348623157e308, 1 / 3, 5e-324])
def test_every_float_comes_back_bit_for_bit(scalar: float) -> None:
    header, body = encode("desk/17.3", scalar)
    assert header == "IC-Segment: desk/17.3" and json.loads(body) == scalar
    segment, found = decode(header, body)
    assert segment == "desk/17.3" and found.hex() == scalar.hex()


@pytest.mark.parametrize("body", [b"3", b" 3\r\n", b"3.0", b"30e-1", b"0.3E+1"])
def test_any_json_number_is_read(body: bytes) -> None:
    assert decode("ic-segment:\ta", body) == ("a", 3.0)


@pytest.mark.parametrize(
    "body",
    [b"", b"NaN", b"Infinity", b"-Infinity", b"1e999", b"true", b"null", b'"1"', b"[1]", b"1 2", b"01", b".5", b"5.",
     b"+1", b"0x1", b"1_0", b"1" * 40, b"\xff1", "١".encode()],
)  # fmt: skip
def test_nothing_else_is(body: bytes) -> None:
    with pytest.raises(ValueError, match="^body: ") as caught:
        decode("IC-Segment: secret", body)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    ["", "IC-Segment", "IC-Segment:", "IC-Segment: a b", "IC-Other: a", f"IC-Segment: {'a' * 201}", "IC-Segment: a\nb",
     "IC-Segment: é"],
)  # fmt: skip
def test_headers_name_one_segment(header: str) -> None:
    with pytest.raises(ValueError, match="^header: "):
        decode(header, b"1")


def test_nothing_that_could_not_be_read_is_sent() -> None:
    for wrong in ((math.nan, "a"), (math.inf, "a"), (1.0, ""), (1.0, "a b")):
        with pytest.raises(ValueError):
            encode(wrong[1], wrong[0])
