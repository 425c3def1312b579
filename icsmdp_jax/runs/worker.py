"""A second process that calls what it is sent: threads of one process take turns at whatever Python itself does.

Tracing and lowering programs, exact quantities of small models, figures: with two threads such work takes as long as
with one. A worker imports from where the process that started it does, has its environment and its options of JAX, and
goes when that goes.
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
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from icsmdp_jax.endings import plain_warning
from icsmdp_jax.runs.compile_clock import CompileClock

START = "import sys; sys.path[:] = {path!r}; from icsmdp_jax.runs.worker import serve; serve({pipe}, {first})"
LOOK = 0.5  # seconds between two looks at whether the first process is still there
GRACE = 2.0  # seconds for a worker to end by itself


class Unable(Exception):
    """A worker did not give a result, for whatever reason: the caller should call the function itself."""


class Worker:
    """A process that calls one function after another.

    Raises:
      OSError: if there can be no other process.
    """

    def __init__(self) -> None:
        import jax

        self._idle, self._ending = False, threading.Lock()
        self._pipe, there = Pipe()
        path = [entry for entry in sys.path if isinstance(entry, str)]
        with there:
            self._process = subprocess.Popen(
                [sys.executable or "", "-c", START.format(path=path, pipe=there.fileno(), first=os.getpid())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # what this process prints there is for programs to read
                start_new_session=True,  # Ctrl-C reaches the first process, which ends this one
            )
        try:
            self._pipe.send_bytes(pickle.dumps(jax.config.values))
        except BaseException:
            self.end()
            raise

    def call(
        self,
        function: Callable[..., Any],
        progress: Callable[[int], None],
        compiled: Callable[[float, int, int], None] = lambda seconds, programs, loaded: None,
    ) -> Any:
        """``function(progress)``, there; calls of ``progress`` are heard here, and what it raises ends the worker.

        Args:
          function: picklable, and so is what it returns.
          progress: of the caller.
          compiled: told of the seconds of compilation, the programs and those from the cache, at the end.

        Raises:
          Unable: if the function or what it returns cannot be pickled, if it failed, or if the process has died.
        """
        try:
            order = pickle.dumps(function)
            self._idle = False  # before it is sent: another thread may end the process from now on
            self._pipe.send_bytes(order)
        except Exception as error:
            raise Unable(repr(error)) from error
        while True:
            kind, value = self._answer()
            if kind in ("done", "failed"):
                self._idle = True
                if kind == "failed":
                    raise Unable(value)
                return value
            try:
                if kind == "progress":
                    progress(value)
                else:
                    compiled(*value)
            except BaseException:
                self.end()
                raise

    def _answer(self) -> tuple[str, Any]:
        try:
            kind, value = pickle.loads(self._pipe.recv_bytes())
        except Exception as error:
            self.end()
            raise Unable(repr(error)) from error
        return kind, value

    def close(self) -> None:
        """Says that there is nothing more to do; the process ends when it hears of it."""
        with suppress(OSError):
            self._pipe.send_bytes(pickle.dumps(None))

    def end(self) -> None:
        """Ends the process, whatever it is doing; one that has nothing to do ends by itself."""
        if self._idle:
            self.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        with self._ending:  # which two threads may want, and a pipe is closed once
            self._process.kill()
            self._process.wait()
            self._pipe.close()


def serve(pipe: int, first: int) -> None:
    """What the process does, until its first process has no more for it or is gone.

    Args:
      pipe: number of its end of the pipe.
      first: number of the first process.
    """
    with suppress(EOFError, OSError), Connection(pipe) as connection:
        _serve(connection, first)


def _serve(connection: Connection, first: int) -> None:
    threading.Thread(target=_follow, args=(first,), daemon=True).start()
    lock = threading.Lock()

    def answer(kind: str, value: Any) -> None:
        data = pickle.dumps((kind, value))
        with lock:
            connection.send_bytes(data)

    warnings.showwarning = plain_warning
    options = pickle.loads(connection.recv_bytes())
    import jax

    for name, value in options.items():
        if jax.config.values.get(name) != value:
            jax.config.update(name, value)
    clock = CompileClock()
    while True:
        order = connection.recv_bytes()
        try:
            function = pickle.loads(order)
            if function is None:
                return
            result = function(lambda amount: answer("progress", amount))
            answer("compiled", clock.taken())
            answer("done", result)
        except BaseException as error:
            answer("failed", repr(error))


def _follow(first: int) -> None:
    while os.getppid() == first:
        time.sleep(LOOK)
    os._exit(1)
