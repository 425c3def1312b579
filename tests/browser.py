"""Pages in a headless browser: what scripts find in a page that has been opened, without a driver."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip
WAITING = "const wait = (ms) => new Promise((done) => setTimeout(done, ms));"


def axe_source() -> str | None:
    """The accessibility checker axe-core, named by ``AXE_CORE`` or installed here by npm; None if absent."""
    path = Path(os.environ.get("AXE_CORE", "node_modules/axe-core/axe.min.js"))
    return path.read_text(encoding="utf-8") if path.is_file() else None


def found(page: Path, script: str, before: str = "", width: int = 1280, dark: bool = False) -> Any:
    """What an asynchronous function with this body returns in the opened page, as JSON.

    Errors of the page, and addresses that it was kept from loading, are errors here.

    Args:
      page: an HTML file.
      script: body of the function; may call ``wait(ms)``.
      before: a script that the page runs before it.
      width: of the window.
      dark: whether dark colours are preferred.
    """
    assert BROWSER is not None
    watch = "const errors = []; addEventListener('error', (e) => errors.push(e.message)); addEventListener(" \
            "'unhandledrejection', (e) => errors.push(String(e.reason))); document.addEventListener(" \
            "'securitypolicyviolation', (e) => errors.push(e.violatedDirective + ' ' + e.blockedURI));"  # fmt: skip
    body = (
        f"<script>{before}</script><script>{WAITING} (async () => {{ let result; try {{ result = await (async () => "
        f"{{ {script} }})(); }} catch (error) {{ errors.push(String(error)); }} const out = "
        "document.createElement('pre'); out.id = 'found-here'; "
        "out.textContent = JSON.stringify([errors, result ?? null]); document.body.append(out); })();</script>"
    )
    source = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(
            source.replace("<style>", f"<script>{watch}</script><style>", 1).replace("</body>", body + "</body>"),
            encoding="utf-8",
        )
        command = [BROWSER, *QUIET, f"--user-data-dir={folder}/profile", f"--window-size={width},1000",
                   "--virtual-time-budget=60000", "--dump-dom", copy.as_uri()]  # fmt: skip
        if dark:
            command.insert(1, "--blink-settings=preferredColorScheme=0")
        dom = subprocess.run(command, capture_output=True, timeout=240, check=True).stdout.decode()
    answer = re.findall(r'<pre id="found-here">(.*?)</pre>', dom, re.DOTALL)
    assert answer, "the page did not answer"
    errors, result = json.loads(html.unescape(answer[-1]))
    assert not errors, errors
    return result
