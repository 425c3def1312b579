"""What runs inside one agent's own operating-system process (D9): NumPy only, no JAX, nothing else of the package.

``environment.py`` starts this file as a script and plays the environment. Standard input brings what the agent itself
observes, standard output says when a segment is absorbed; scalars of other agents come through the inbox, a pipe into
which any agent may write frames of exactly four bytes. The arithmetic is float32, operation by operation that of
``message.py`` and ``schedules.py``, so results agree with the vectorised learner up to rounding.
"""

from __future__ import annotations

import io
import json
import os
import selectors
import sys
from typing import Any, NamedTuple

import numpy as np

FRAME = 4  # bytes of one message between agents: a little-endian float32
ARRIVAL, SEGMENT, FINISH, DONE = b"a", b"s", b"f", b"d"


class Shapes(NamedTuple):
    """Frame formats of the environment's side; ``width`` is None for tables, else the length of a feature row."""

    options: int
    width: int | None

    @property
    def view(self) -> tuple:
        return ("view", "<i4") if self.width is None else ("view", "<f4", (self.width,))

    @property
    def arrival(self) -> np.dtype:
        """An agent became active: ``sender`` is the return address of its one message."""
        return np.dtype([("sender", "<i4"), self.view, ("mask", "?", (self.options,))])

    @property
    def segment(self) -> np.dtype:
        """An agent's own segment ended."""
        fields = [("option", "<i4"), ("reward", "<f4"), ("discount", "<f4"), ("epoch", "<i4"), ("terminal", "?")]
        return np.dtype([self.view, *fields])


class Agent:
    """All that one agent knows, and the two things it does with it (D9)."""

    def __init__(self, parameters: np.ndarray, tabular: bool, clock: str, schedule: list[float]) -> None:
        self.parameters = parameters
        self.tabular = tabular
        self.clock = clock
        self.schedule = [np.float32(number) for number in schedule]
        self.visits = np.zeros(parameters.shape if tabular else parameters.shape[:1], np.int32)

    def values(self, view: Any) -> np.ndarray:
        """``[O]`` float32 values at one own interface: a row index (tabular) or a feature row (linear)."""
        return self.parameters[view] if self.tabular else (self.parameters * view[None, :]).sum(axis=1)

    def offer(self, view: Any, mask: np.ndarray) -> np.float32:
        """The one scalar that the agent ever tells: its best available value."""
        return self.values(view)[mask].max() if mask.any() else np.float32(0)

    def step_size(self, clock: int) -> np.float32:
        """``StepSize.at``: ``min(cap, scale (1 + rescale c)^-power)``."""
        scale, rescale, power, cap = self.schedule
        return np.minimum(cap, scale * np.power(np.float32(1) + rescale * np.float32(clock), -power))

    def absorb(self, segment: Any, scalar: np.float32) -> None:
        """The update from an own segment and the scalar heard: y = R + gamma^tau v."""
        view, option = segment["view"], segment["option"]
        error = segment["reward"] + segment["discount"] * scalar - self.values(view)[option]
        entry = (view, option) if self.tabular else option
        alpha = self.step_size(segment["epoch"] if self.clock == "epoch" else self.visits[entry])
        self.visits[entry] += 1
        self.parameters[entry] += alpha * error * (np.float32(1) if self.tabular else view)


def read_exactly(descriptor: int, size: int) -> bytes:
    """Blocks for ``size`` bytes; fewer at the end of the stream."""
    data = b""
    while len(data) < size and (part := os.read(descriptor, size - len(data))):
        data += part
    return data


class Inbox:
    """The reading end of an agent's pipe: frames of four bytes, counted."""

    def __init__(self, descriptor: int, timeout: float) -> None:
        self.descriptor, self.timeout = descriptor, timeout
        self.bytes = 0
        self.scalars: list[np.float32] = []
        self.selector = selectors.DefaultSelector()
        self.selector.register(descriptor, selectors.EVENT_READ)

    def read(self) -> np.float32:
        """Waits for one message; whatever is in the pipe must be one frame."""
        if not self.selector.select(self.timeout):
            raise TimeoutError(f"no scalar arrived within {self.timeout} s")
        data = os.read(self.descriptor, 65536)  # a frame is far below PIPE_BUF, so it comes in one piece
        self.bytes += len(data)
        if len(data) != FRAME:
            raise ValueError(f"{len(data)} bytes in the inbox: expected one frame of {FRAME}")
        self.scalars.append(np.frombuffer(data, "<f4")[0])
        return self.scalars[-1]

    def check_empty(self) -> None:
        """Raises ValueError for a message that was not asked for."""
        if self.selector.select(0):
            raise ValueError("a message is left in the inbox")


def work(setup: dict[str, Any]) -> None:
    """The life of an agent's process: standard input brings what it observes, standard output says when it is done.

    Args:
      setup: ``options, width, shape, clock, schedule, inbox, outboxes, timeout``; descriptors are inherited.
    """
    shapes = Shapes(setup["options"], setup["width"])
    size = FRAME * int(np.prod(setup["shape"]))
    initial = np.frombuffer(read_exactly(0, size), "<f4").reshape(setup["shape"]).copy()
    agent = Agent(initial, shapes.width is None, setup["clock"], setup["schedule"])
    inbox = Inbox(setup["inbox"], 2 * setup["timeout"])  # the environment gives up first, and knows more
    bytes_out = np.zeros(len(setup["outboxes"]), np.int64)
    arrivals, segments = [], []
    while (kind := os.read(0, 1)) and kind != FINISH:
        form = shapes.arrival if kind == ARRIVAL else shapes.segment
        seen = np.frombuffer(read_exactly(0, form.itemsize), form)[0]
        if kind == ARRIVAL:
            arrivals.append(seen)
            frame = np.asarray(agent.offer(seen["view"], seen["mask"]), "<f4").tobytes()
            bytes_out[seen["sender"]] += os.write(setup["outboxes"][seen["sender"]], frame)
        else:
            segments.append(seen)
            agent.absorb(seen, np.float32(0) if seen["terminal"] else inbox.read())
            os.write(1, DONE)
    inbox.check_empty()
    report = io.BytesIO()
    np.savez(
        report,
        parameters=agent.parameters,
        visits=agent.visits,
        arrivals=np.array(arrivals, shapes.arrival),
        segments=np.array(segments, shapes.segment),
        incoming=np.array(inbox.scalars, np.float32),
        bytes_in=inbox.bytes,
        bytes_out=bytes_out,
        modules=np.array(sorted({name.partition(".")[0] for name in sys.modules})),
        pid=os.getpid(),
    )
    if kind:  # at the end of standard input the environment is gone, and no one reads this
        sys.stdout.buffer.write(report.getvalue())


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))
