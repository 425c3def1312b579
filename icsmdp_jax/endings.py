"""How a command ends: one exit code for each kind of end, and one line on stderr for whatever went wrong.

0 is success, 1 a finding such as a violated bound and nothing else, 2 input that cannot be used, 3 an error of this
program, of a library or of a user's function, whose traceback is kept in a file. What a function refuses on purpose,
with ``raise ValueError``, is bad input; a ValueError that a library raises is an error.
"""

from __future__ import annotations

import contextlib
import dis
import os
import signal
import sys
import tempfile
import threading
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

FINDING, REFUSED, FAILED, INTERRUPTED, PIPE = 1, 2, 3, 130, 141
TRACEBACK_VARIABLE = "ICSMDP_TRACEBACK"  # if set, errors are raised as they are
LIBRARIES = sys.stdlib_module_names | {
    "chex", "flax", "jax", "jaxlib", "jinja2", "markupsafe", "matplotlib", "numpy", "optax", "pyarrow", "safetensors",
    "scipy", "tqdm",
}  # fmt: skip
LONGEST = 400  # characters of a message that a line repeats
LONGEST_LINE = 1600  # characters of a line on stderr


class Terminated(KeyboardInterrupt):
    """The system asked this process to end, by the signal in ``number``."""

    number: int = signal.SIGTERM


def ended(program: str, run: Callable[[], int]) -> int:
    """Runs a command and turns whatever ends it into an exit code and at most one line on stderr.

    Args:
      program: its name, with which the line begins.
      run: the command; returns its exit code.

    Raises:
      SystemExit: as ``run`` raised it.
    """
    _never_fail_to_encode()
    with _signals_as_exceptions():
        try:
            try:
                code = run()
            finally:
                _flush()
            return code
        except BrokenPipeError:  # whoever read the output has read enough
            _silence()
            return PIPE
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, Terminated) else signal.SIGINT
            _say(f"{program}: {'interrupted' if number == signal.SIGINT else 'terminated'}")
            return 128 + number
        except Exception as error:
            if os.environ.get(TRACEBACK_VARIABLE):
                raise
            if isinstance(error, ValueError) and deliberate(error) or isinstance(error, OSError):
                _say(f"{program}: {one_line(error)}")
                return REFUSED
            _say(f"{program}: {summary(error)}; {_keep_traceback(error)}")
            return FAILED


def deliberate(error: BaseException) -> bool:
    """Whether an error, and any ValueError that it was made of, was raised on purpose outside of all libraries.

    The last frame of the traceback has to stand at a ``raise``: an error from compiled code appears at the call.
    """
    step = error.__traceback__
    if step is None:
        return False
    while step.tb_next is not None:
        step = step.tb_next
    module = str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
    raises = step.tb_frame.f_code.co_code[step.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    if not raises or module in LIBRARIES:
        return False
    return not isinstance(error.__cause__, ValueError) or deliberate(error.__cause__)


def summary(error: BaseException) -> str:
    """The kind and the message of an error, in one line."""
    text = f"{type(error).__name__}: {one_line(error)}" if str(error) else type(error).__name__
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        text = f"out of memory ({text})"
    return text


def one_line(error: BaseException) -> str:
    """The message of an error as one printable line, cut off where it is very long."""
    text = printable(str(error))
    return text if len(text) <= LONGEST or isinstance(error, ValueError) else f"{text[:LONGEST]} ..."


def plain_warning(message: Any, *_: Any, **__: Any) -> None:
    """One line on stderr, in place of ``warnings.showwarning``."""
    print(f"icsmdp: warning: {printable(str(message))}", file=sys.stderr)


def printable(text: str) -> str:
    """A text in one line, with control characters spelled out: names from files must not steer a terminal.

    Of a line that is too long to be read, both ends are left.
    """
    line = " ".join(text.split())
    line = "".join(f"\\x{ord(letter):02x}" if unicodedata.category(letter) == "Cc" else letter for letter in line)
    if len(line) <= LONGEST_LINE:
        return line
    return f"{line[: LONGEST_LINE * 3 // 4]} ... {line[-LONGEST_LINE // 4 :]}"


def _keep_traceback(error: BaseException) -> str:
    """Writes the traceback into the system's folder for temporary files, and says where."""
    try:
        folder = tempfile.gettempdir()
        named = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")]
        if Path(folder) == Path.cwd() and folder not in (*named, "/tmp", "/var/tmp", "/usr/tmp"):
            raise OSError("no folder for temporary files")  # Python falls back on the working directory
        handle, name = tempfile.mkstemp(prefix="icsmdp-traceback-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.writelines(traceback.format_exception(error))
    except OSError:
        return f"set {TRACEBACK_VARIABLE}=1 to see the traceback, for which there is no folder"
    return f"the traceback is in {name}"


@contextlib.contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP end the program as Ctrl-C does, so that no temporary file is left behind."""
    kept: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> None:
        error = Terminated()
        error.number = number
        raise error

    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                kept[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _never_fail_to_encode() -> None:
    """Writes what the terminal's encoding lacks as ``\\u00e9``, and names of files that are not text as ``\\udce9``."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Writes what is left of stdout while errors can still be reported."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            _silence()
            raise


def _silence() -> None:
    """Sends what is left of stdout nowhere, so that the interpreter does not complain at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _say(line: str) -> None:
    """A line on stderr, if stderr is open."""
    with contextlib.suppress(OSError, AttributeError):
        print(line, file=sys.stderr, flush=True)
