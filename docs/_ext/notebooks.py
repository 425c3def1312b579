"""Notebooks in the percent format: plain Python files, run here in a process of their own.

`python docs/_ext/notebooks.py FILE` runs one and prints its cells with what they put out, as JSON.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
# Programs of notebooks run for moments and are optimised less, by plainer emitters: compiling is most of the work.
QUICKLY = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters --xla_cpu_parallel_codegen_split_count=1"
)
Cell = dict[str, Any]  # the form of Jupyter's own files: cell_type, source, outputs


def cells(text: str) -> list[Cell]:
    """The cells of a percent file; what stands before the first one is left out."""
    found: list[Cell] = []
    for part in re.split(r"^# %%", text, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        body = body.strip("\n")
        if head.strip() == "[markdown]":
            body = "\n".join(re.sub(r"^# ?", "", line) for line in body.splitlines())
            found.append({"cell_type": "markdown", "metadata": {}, "source": body})
        else:
            code = {"cell_type": "code", "metadata": {}, "source": body, "execution_count": None, "outputs": []}
            found.append(code)
    return found


def run(path: Path, timeout: float = 300) -> list[Cell]:
    """The cells of a notebook with their outputs, run in an empty folder by a process of its own.

    Raises:
      RuntimeError: with the traceback, if a cell fails.
    """
    root = str(NOTEBOOKS.parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    environment.setdefault("XLA_FLAGS", QUICKLY)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, str(Path(__file__).resolve()), str(path.resolve())],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{path.name}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def jupyter(executed: list[Cell]) -> dict[str, Any]:
    """The same as a file for Jupyter."""
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": executed, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}


def execute(path: Path) -> list[Cell]:
    """Runs the cells one after the other in this process; the last expression of a cell is shown, and its figures."""
    found, names = cells(path.read_text(encoding="utf-8")), {"__name__": "__main__"}
    for number, cell in enumerate((cell for cell in found if cell["cell_type"] == "code"), 1):
        printed = io.StringIO()
        tree = ast.parse(cell["source"], path.name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, path.name, "exec"), names)
            value = eval(compile(ast.Expression(last.value), path.name, "eval"), names) if last else None
        cell["execution_count"] = number
        if printed.getvalue():
            cell["outputs"].append({"output_type": "stream", "name": "stdout", "text": printed.getvalue()})
        if value is not None:
            result = {"output_type": "execute_result", "execution_count": number, "metadata": {}}
            cell["outputs"].append(result | {"data": shown(value)})
    return found


def shown(value: Any) -> dict[str, str]:
    """A value as Jupyter would show it: a picture, a table, else its text."""
    if hasattr(value, "savefig"):
        stream = io.BytesIO()
        value.savefig(stream, format="png", dpi=120)
        return {"image/png": base64.b64encode(stream.getvalue()).decode(), "text/plain": repr(value)}
    page = {"text/html": value._repr_html_()} if hasattr(value, "_repr_html_") else {}
    return page | {"text/plain": repr(value)}


if __name__ == "__main__":
    print(json.dumps(execute(Path(sys.argv[1]))))
