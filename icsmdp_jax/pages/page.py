"""Pages from templates: style, contents list, tables that sort and filter, figures that respond to the pointer.

A page is one file that loads nothing; its security policy forbids that. Without scripts, and in print, it shows the
pictures; with scripts, plotly.js draws the same from the data next to the pictures (``NAME.json``).
"""

from __future__ import annotations

import base64
import gzip
import importlib.util
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

HERE = __package__
COLOURS = 64
MOST_DATA = 400_000  # bytes of a figure's data; beyond that a page shows its picture only


class Picture(NamedTuple):
    """A figure of a page.

    Attributes:
      png: the picture, base64.
      share: its width as a percentage of a figure over both columns, so that all have letters of one size.
      files: names and addresses, relative to the page, of its files.
      panels: its data as JSON, see ``icsmdp_jax.drawing.interactive``; empty if there is none.
      complete: whether the data shows all that the picture shows.
      pictured: upper share of the picture's height below which the data shows everything.
    """

    png: str
    share: str
    files: Sequence[tuple[str, str]]
    panels: str
    complete: bool
    pictured: float


def picture(path: Path, root: Path, full_width: float, dpi: int) -> Picture:
    """The figure whose PNG lies at ``path``, with its other formats next to it.

    Args:
      path: of the PNG.
      root: folder of the page.
      full_width: inches of a figure over both columns.
      dpi: of the PNG.
    """
    from PIL import Image  # comes with Matplotlib

    with Image.open(path) as image:
        share = f"{100 * min(image.width / (full_width * dpi), 1.0):.3g}%"
        # Line art in 64 colours is a quarter of the size and looks the same.
        few = image.convert("RGB").quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    packed = io.BytesIO()
    few.save(packed, "PNG")
    files = []
    for text, ending in (
        ("PDF", ".pdf"),
        ("PNG", ".png"),
        ("PDF for a single column", "-column.pdf"),
        ("data", ".json"),
    ):
        beside = path.with_name(path.stem + ending)
        if beside.is_file() and beside.is_relative_to(root):
            files.append((text, beside.relative_to(root).as_posix()))
    source = path.with_suffix(".json")
    data = source.read_text(encoding="utf-8") if source.is_file() else ""
    panels, complete, pictured = "", False, 1.0
    if 0 < len(data) <= MOST_DATA:
        found = json.loads(data)
        panels, complete = (_inert(found["panels"]) if found["panels"] else ""), bool(found["complete"])
        pictured = float(found.get("pictured", 1.0))
    return Picture(base64.b64encode(packed.getvalue()).decode("ascii"), share, files, panels, complete, pictured)


def render(package: str, template: str, filters: Mapping[str, Callable[..., Any]], **context: Any) -> str:
    """The page of a template in ``package/templates`` that extends ``shell.html.j2``; same input, same bytes.

    Whatever is not ``Markup`` is escaped; a name that the template uses but was not given is an error.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def source(name: str) -> str | None:
        for room in (package, HERE):
            file = resources.files(room).joinpath("templates", name)
            if file.is_file():
                return file.read_text(encoding="utf-8")
        return None

    environment = Environment(
        loader=FunctionLoader(source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= filters
    page = environment.get_template(template).render(context)
    if '<div class="panels"' in page and bundle():
        before, after = page.rsplit("</main>\n", 1)
        page = f'{before}</main>\n<script type="text/plain" id="plotly">{bundle()}</script>\n{after}'
    return page


@lru_cache(maxsize=1)
def bundle() -> str:
    """plotly.js as its Python package ships it, gzipped (a third of its size), base64; empty if not installed."""
    # The script alone: importing plotly would take longer than all else.
    found = importlib.util.find_spec("plotly")
    if found is None or found.submodule_search_locations is None:
        return ""
    script = Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return base64.b64encode(gzip.compress(script.read_bytes(), mtime=0)).decode("ascii")


def _inert(data: Any) -> str:
    """JSON that no HTML parser mistakes for markup."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
