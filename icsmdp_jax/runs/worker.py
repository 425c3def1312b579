"""A second process that calls what it is sent: threads of one process take turns at whatever Python itself does.

Tracing and lowering programs, exact quantities of small models, figures: with two threads such work takes as long as
with one. A worker has the environment and the options of JAX of the process that started it, and goes when that goes.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from icsmdp_jax.endings import plain_warning
from icsmdp_jax.runs import provenance
from icsmdp_jax.runs.meter import CompileClock

START = "from icsmdp_jax.runs.worker import serve; serve()"
OPTIONS = (*provenance.OPTIONS, "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
LOOK = 0.5  # seconds between two looks at whether the first process is still there


class Unable(Exception):
    """A worker did not give a result, for whatever reason: the caller should call the function itself."""


class Worker:
    """A process that calls one function after another."""

    def __init__(self) -> None:
        """Raises OSError if there can be no other process."""
        self._process = subprocess.Popen(
            [sys.executable or "", "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,  # Ctrl-C reaches the first process, which ends this one
        )
        import jax

        self._first = pickle.dumps((os.getpid(), {name: getattr(jax.config, name) for name in OPTIONS}))

    def call(
        self,
        function: Callable[..., Any],
        progress: Callable[[int], None],
        compiled: Callable[[float, int, int], None] = lambda seconds, programs, loaded: None,
    ) -> Any:
        """``function(progress)``, there; calls of ``progress`` are heard here.

        Args:
          function: picklable, and so is what it returns.
          progress: of the caller.
          compiled: told of the seconds of compilation, the programs and those from the cache, at the end.

        Raises:
          Unable: if the function or what it returns cannot be pickled, if it failed, or if the process has died.
        """
        try:
            order = pickle.dumps(function)
        except Exception as error:
            raise Unable(repr(error)) from error
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None and answers is not None
        try:
            orders.write(self._first + order)
            orders.flush()
            self._first = b""
            while True:
                kind, value = pickle.load(answers)
                if kind == "progress":
                    progress(value)
                elif kind == "compiled":
                    compiled(*value)
                else:
                    break
        except BaseException as error:  # it has died, or the caller is told to stop
            self.end()
            if isinstance(error, Exception):
                raise Unable(repr(error)) from error
            raise
        if kind == "failed":
            raise Unable(value)
        return value

    def end(self) -> None:
        """Ends the process, whatever it is doing."""
        self._process.kill()
        with suppress(OSError, ValueError), self._process:
            pass  # waits for its end and closes the pipes


def serve() -> None:
    """What the process does, until its first process has no more for it or is gone."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what functions print
    lock = threading.Lock()

    def answer(kind: str, value: Any) -> None:
        data = pickle.dumps((kind, value))
        with lock:
            answers.write(data)
            answers.flush()

    warnings.showwarning = plain_warning
    first, options = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_follow, args=(first,), daemon=True).start()
    import jax

    for name, value in options.items():
        jax.config.update(name, value)
    clock = CompileClock()
    while True:
        try:
            function = pickle.load(sys.stdin.buffer)
            result = function(lambda amount: answer("progress", amount))
            answer("compiled", clock.taken())
            answer("done", result)
        except EOFError:
            return
        except Exception as error:
            answer("failed", repr(error))


def _follow(first: int) -> None:
    while os.getppid() == first:
        time.sleep(LOOK)
    os._exit(1)
