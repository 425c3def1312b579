"""Where compiled programs are kept between tests, and which test files stay in one process."""

from __future__ import annotations

import fcntl
import gc
import os
import platform
import shutil
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
CACHE = "JAX_COMPILATION_CACHE_DIR"
LARGEST = 2**30  # bytes; beyond it the programs of earlier sessions are dropped


def pytest_configure(config: pytest.Config) -> None:
    """Compiles a program once for all processes of a session, those that tests start included, and for later ones.

    JAX finds a program by what it computes, its own version and the flags, but not by the processor, so each kind of
    processor has a folder of its own. ``make clean`` removes them all. Nobody else's cache is read or written; whoever
    sets the variable has another folder used. It is set before anything imports JAX, and workers and subprocesses
    inherit it. Property tests that ask for ``helpers.examples`` get a third of them in the fast suite.
    """
    if not config.getoption("-m").startswith("slow"):
        settings.register_profile("fast", max_examples=33)
        settings.load_profile("fast")
    if CACHE in os.environ:
        return
    place = ROOT / ".cache" / "jax-tests" / f"{platform.machine()}-{crc32(processor().encode()):08x}"
    if sum(file.stat().st_size for file in place.glob("*")) > LARGEST:
        shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    os.environ[CACHE] = str(place)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".cache" / "numba-tests"))
    config.add_cleanup(lambda: os.environ.pop(CACHE, None))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """One worker after the other: the first rewrites the asserts of all files, the others read its bytecode."""
    place = ROOT / ".cache" / "collection.lock"
    place.parent.mkdir(exist_ok=True)
    with open(place, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return (yield)


def pytest_collection_finish() -> None:
    """What importing and collecting made stays until the end: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def processor() -> str:
    """What tells processors apart that do not run each other's programs."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


LONGEST = (  # files that take a process a minute or more: begun first, so that no process waits for one at the end
    "validation run",
    "tests/devices/test_devices.py",
    "tests/benchmarks/test_benchmarks.py",
    "tests/bound_validation/test_figures.py",
    "tests/test_cli.py",
    "tests/test_readme.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all others in their order."""

    def place(item: pytest.Item) -> int:
        scope = scope_of(item.nodeid.split("::", 1)[0])
        return LONGEST.index(scope) if scope in LONGEST else len(LONGEST)

    items.sort(key=place)


@cache
def scope_of(file: str) -> str:
    """What stays in one process: a file, or all files that look at the shared validation run.

    That run is made once, behind a lock. A second process that asks for it meanwhile would do nothing but wait.
    """
    return "validation run" if "shared_run(" in (ROOT / file).read_text(encoding="utf-8") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """``--dist loadfile`` with these scopes; other distributions are left as they are."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scopes(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid.split("::", 1)[0])

    return Scopes(config, log)
