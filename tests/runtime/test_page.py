"""docs/runtime.md: its example prints what it says, and what it names exists."""

from __future__ import annotations

import re

from examples.support_desk.desk import Desk, by_hand
from tests.pages import DOCS, examples_print_what_they_say, named_things_exist

PAGE = DOCS / "runtime.md"


def test_the_example_prints_what_it_says() -> None:
    examples_print_what_they_say(PAGE)


def test_the_pages_name_what_exists() -> None:
    named_things_exist(PAGE, 5)
    named_things_exist(DOCS / "rfc" / "message.md", 1)


def test_the_routing_by_hand_is_worth_what_the_page_says() -> None:
    desk = Desk()
    (row,) = re.findall(r"^\| by hand: .* \| ([\d.]+) \| ([\d.]+) \|$", PAGE.read_text(), re.MULTILINE)
    assert row == (f"{desk.value(desk.table(by_hand)):.2f}", f"{desk.gain(by_hand):.3f}")
