"""IC-Q with one operating-system process per agent and one float32 per handoff between them (D9).

An agent's process holds its own parameters, its own counters and its own segments (``agent.py``). Its *inbox*
is a pipe into which any agent may write frames of exactly four bytes, one float32 each; agents share nothing else. The
process that calls ``run_processes`` plays the environment: it replays a trajectory and shows each agent what that agent
itself observes, over the agent's standard input. The two kinds of traffic have separate pipes, so they are counted
separately. POSIX systems.
"""

from __future__ import annotations

import io
import json
import os
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from examples.processes import agent as agent_process
from examples.processes.agent import ARRIVAL, DONE, FINISH, SEGMENT, Shapes

if TYPE_CHECKING:
    from icsmdp_jax.learner.schedules import StepSize


class Trajectory(NamedTuple):
    """``K`` consecutive handoffs, as recorded from any environment; leading axis ``K``.

    Attributes:
      agent: int, who acted.
      interface: int, what it saw, an index below ``Z``.
      option: int, what it chose.
      reward: float32, segment reward ``R``.
      discount: float32, ``gamma^tau``; 0 at a terminal handoff.
      final_agent: int, who is active where the segment ended, before any restart.
      final_interface: int, what that agent sees there.
      final_mask: ``[K, O]`` bool, its available options.
    """

    agent: np.ndarray
    interface: np.ndarray
    option: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    final_agent: np.ndarray
    final_interface: np.ndarray
    final_mask: np.ndarray

    @property
    def terminal(self) -> np.ndarray:
        """``[K]`` bool: nothing is left to hear, since no option follows or the discount is 0."""
        return (np.asarray(self.discount) == 0) | ~np.asarray(self.final_mask, bool).any(axis=1)


class AgentReport(NamedTuple):
    """What one agent's process says of itself after its last handoff.

    Attributes:
      parameters: float32, ``[own interfaces, O]`` (tabular) or ``[O, p]`` (linear).
      visits: int32 counts of updates, per own interface and option (tabular) or per option (linear).
      arrivals: every arrival the environment announced to it; fields ``sender``, ``view``, ``mask``.
      segments: every segment of its own; ``view``, ``option``, ``reward``, ``discount``, ``epoch``, ``terminal``.
      incoming: ``[n]`` float32, every scalar read from its inbox.
      bytes_in: bytes read from its inbox.
      bytes_out: ``[N]`` int64, bytes written into each agent's inbox.
      modules: top-level modules loaded in its process.
      pid: its process id.
    """

    parameters: np.ndarray
    visits: np.ndarray
    arrivals: np.ndarray
    segments: np.ndarray
    incoming: np.ndarray
    bytes_in: int
    bytes_out: np.ndarray
    modules: tuple[str, ...]
    pid: int


class ProcessRun(NamedTuple):
    """Result of a run over processes.

    Attributes:
      q: ``[Z, O]`` float32, each row from its owner's parameters; NaN where no agent decides.
      handoffs: handoffs replayed, terminal ones included.
      scalars: messages between agents, as their receivers counted them. A handoff of an agent to itself counts as
        one (the agent writes into its own inbox), a terminal handoff as none: its v is 0 by definition, and the
        environment says that it was terminal. Continuing models thus have as many scalars as handoffs.
      bytes: bytes between agents, as their senders counted them.
      traffic: ``[N, N]`` int64 bytes, from row to column.
      observed_bytes: bytes from the environment to the agents, which are no part of ``bytes``.
      agents: what each agent's process reported.
    """

    q: np.ndarray
    handoffs: int
    scalars: int
    bytes: int
    traffic: np.ndarray
    observed_bytes: int
    agents: tuple[AgentReport, ...]


class ProcessError(RuntimeError):
    """An agent's process ended or stopped answering; the message says which, when and why."""


class AgentProcesses:
    """One process per agent, started on construction and gone after the ``with`` block, whatever happens in it."""

    def __init__(
        self, parameters: list[np.ndarray], shapes: Shapes, schedule: StepSize, clock: str, timeout: float
    ) -> None:
        """Starts the processes; ``parameters[i]`` goes to agent i's process and to no other."""
        self.shapes, self.timeout = shapes, timeout
        self.observed_bytes = 0
        self.processes: list[subprocess.Popen[bytes]] = []
        self.selector = selectors.DefaultSelector()
        pipes: list[tuple[int, int]] = []
        try:
            for _ in parameters:
                pipes.append(os.pipe())
            outboxes = [write for _, write in pipes]
            for (inbox, _), own in zip(pipes, parameters, strict=True):
                setup = {
                    "options": shapes.options,
                    "width": shapes.width,
                    "shape": own.shape,
                    "clock": clock,
                    "schedule": [float(number) for number in schedule],
                    "inbox": inbox,
                    "outboxes": outboxes,
                    "timeout": timeout,
                }
                self._start(setup, (inbox, *outboxes))
            for agent, own in enumerate(parameters):
                self._write(agent, np.asarray(own, "<f4").tobytes())
        except BaseException:
            self.close()
            raise
        finally:
            for descriptor in (end for pipe in pipes for end in pipe):
                os.close(descriptor)

    def _start(self, setup: dict[str, Any], descriptors: tuple[int, ...]) -> None:
        # -P keeps this folder off the worker's path; a script, and not -m, keeps the package's imports out of it.
        command = [sys.executable, "-P", str(Path(agent_process.__file__).resolve()), json.dumps(setup)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=descriptors, env=environment
        )
        self.processes.append(process)
        assert process.stdin is not None and process.stdout is not None
        os.set_blocking(process.stdin.fileno(), False)
        self.selector.register(process.stdout.fileno(), selectors.EVENT_READ, len(self.processes) - 1)

    def __enter__(self) -> AgentProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends what still runs, and collects every process."""
        self.selector.close()
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def _ended(self, agent: int) -> ProcessError:
        process = self.processes[agent]
        try:
            status = process.wait(self.timeout)
        except subprocess.TimeoutExpired:
            return ProcessError(f"the process of agent {agent} closed its output but goes on")
        assert process.stderr is not None
        return self._failed(agent, status, process.stderr.read())

    def _failed(self, agent: int, status: int, said: bytes) -> ProcessError:
        lines = said.decode(errors="replace").strip().splitlines()
        return ProcessError(": ".join([f"the process of agent {agent} ended with status {status}", *lines[-1:]]))

    def _write(self, agent: int, data: bytes) -> None:
        stream = self.processes[agent].stdin
        assert stream is not None
        deadline = time.monotonic() + self.timeout
        with selectors.DefaultSelector() as writable:
            writable.register(stream.fileno(), selectors.EVENT_WRITE)
            while data:
                if not writable.select(max(deadline - time.monotonic(), 0)):
                    raise ProcessError(f"the process of agent {agent} read nothing for {self.timeout} s")
                try:
                    data = data[os.write(stream.fileno(), data) :]
                except BrokenPipeError:
                    raise self._ended(agent) from None

    def _show(self, agent: int, kind: bytes, form: np.dtype, fields: tuple) -> None:
        frame = kind + np.array([fields], form).tobytes()
        self._write(agent, frame)
        self.observed_bytes += len(frame)

    def _await(self, agent: int, receiver: int | None) -> None:
        """Waits until ``agent`` has absorbed; the end of any process is noticed, whoever is waited for."""
        events = self.selector.select(self.timeout)
        for key, _ in events:
            said = os.read(key.fd, 1)
            if not said:
                raise self._ended(key.data)
            if said != DONE or key.data != agent:
                raise ProcessError(f"the process of agent {key.data} spoke out of turn")
        if not events:
            source = "a terminal handoff" if receiver is None else f"a scalar from agent {receiver}"
            raise ProcessError(f"agent {agent} did not absorb {source} within {self.timeout} s")

    def handoff(
        self,
        sender: int,
        segment: tuple[Any, int, float, float, int],
        receiver: int | None,
        arrival: tuple[Any, np.ndarray] | None,
    ) -> None:
        """Replays one handoff: the receiver sees where it is and offers, the sender sees its segment and absorbs.

        Args:
          sender: agent whose segment ended.
          segment: ``(view, option, reward, discount, epoch)`` of that agent.
          receiver: agent that is active now; None at a terminal handoff.
          arrival: ``(view, mask)`` of the receiver; None at a terminal handoff.

        Raises:
          ProcessError: if a process ended, or none answered in time.
        """
        if receiver is not None and arrival is not None:
            self._show(receiver, ARRIVAL, self.shapes.arrival, (sender, *arrival))
        self._show(sender, SEGMENT, self.shapes.segment, (*segment, receiver is None))
        self._await(sender, receiver)

    def finish(self) -> tuple[AgentReport, ...]:
        """Ends all processes in order and returns their reports."""
        for agent in range(len(self.processes)):
            self._write(agent, FINISH)
        return tuple(self._report(agent) for agent in range(len(self.processes)))

    def _report(self, agent: int) -> AgentReport:
        process = self.processes[agent]
        try:
            data, said = process.communicate(timeout=self.timeout)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"the process of agent {agent} did not report within {self.timeout} s") from None
        if process.returncode:
            raise self._failed(agent, process.returncode, said)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            fields = dict(file)
        for name in ("bytes_in", "pid"):
            fields[name] = int(fields[name])
        return AgentReport(**{**fields, "modules": tuple(fields["modules"].tolist())})


def run_processes(
    trajectory: Trajectory,
    num_agents: int,
    num_options: int,
    interface_agent: np.ndarray,
    schedule: StepSize,
    clock: str = "visits",
    features: np.ndarray | None = None,
    initial: np.ndarray | None = None,
    timeout: float = 30.0,
) -> ProcessRun:
    """Runs IC-Q on a trajectory with every agent in a process of its own (D9).

    Args:
      trajectory: the handoffs to replay.
      num_agents: ``N``.
      num_options: ``O``.
      interface_agent: ``[Z]`` owner of each interface; -1 where no agent decides.
      schedule: step sizes, ``StepSize`` or any four numbers ``(scale, rescale, power, cap)``.
      clock: ``"visits"`` or ``"epoch"``, as in ``stochastic_approximation``.
      features: ``[Z, p]`` rows for the linear class, None for tables. An agent sees the row of its own interface.
      initial: first parameters, ``[Z, O]`` (tabular) or ``[N, O, p]`` (linear); zeros by default.
      timeout: seconds that any one answer may take, start-up included.

    Returns:
      The values and what was exchanged for them.

    Raises:
      ValueError: if the clock is unknown, a shape is wrong, or a segment shows an agent an interface of another.
      ProcessError: if a process ended or stopped answering; all processes are gone by then.
    """
    owner = np.asarray(interface_agent)
    _check(trajectory, owner, num_agents, num_options, clock)
    own = [np.flatnonzero(owner == agent) for agent in range(num_agents)]
    shapes = Shapes(num_options, None if features is None else features.shape[1])
    shape = (owner.size, num_options) if features is None else (num_agents, num_options, features.shape[1])
    first = np.zeros(shape) if initial is None else np.asarray(initial)
    if first.shape != shape or (features is not None and len(features) != owner.size):
        raise ValueError(f"initial has shape {first.shape}: expected {shape}, and features one row per interface")
    if features is None:
        parameters = [first[rows] for rows in own]
        views: Any = np.array([int((owner[:z] == owner[z]).sum()) for z in range(owner.size)])  # row in the own table
    else:
        parameters = list(first)
        views = np.asarray(features, np.float32)

    terminal = trajectory.terminal
    with AgentProcesses(parameters, shapes, schedule, clock, timeout) as agents:
        for k, (i, z, option, reward, discount, j, z_next, mask) in enumerate(zip(*trajectory, strict=True)):
            segment = (views[z], int(option), float(reward), float(discount), k)
            if terminal[k]:
                agents.handoff(int(i), segment, None, None)
            else:
                agents.handoff(int(i), segment, int(j), (views[z_next], mask))
        reports = agents.finish()
        observed = agents.observed_bytes

    traffic = np.stack([report.bytes_out for report in reports])
    received = np.array([report.bytes_in for report in reports])
    if (traffic.sum(axis=0) != received).any():
        raise ProcessError(f"agents sent {traffic.sum(axis=0)} bytes but read {received}")
    q = np.full((owner.size, num_options), np.nan, np.float32)
    for rows, report in zip(own, reports, strict=True):
        q[rows] = report.parameters if features is None else views[rows] @ report.parameters.T
    scalars = sum(report.incoming.size for report in reports)
    return ProcessRun(q, len(terminal), scalars, int(traffic.sum()), traffic, observed, reports)


def _check(trajectory: Trajectory, owner: np.ndarray, num_agents: int, num_options: int, clock: str) -> None:
    """Raises ValueError unless every agent sees its own interfaces only."""
    if clock not in ("epoch", "visits"):
        raise ValueError(f"clock = {clock!r}: expected 'epoch' or 'visits'")
    if owner.ndim != 1 or owner.max(initial=-1) >= num_agents:
        raise ValueError(f"interface_agent: expected one agent below {num_agents} per interface")
    if np.shape(trajectory.final_mask) != (len(trajectory.agent), num_options):
        raise ValueError(f"final_mask has shape {np.shape(trajectory.final_mask)}: expected one row of {num_options}")
    option = np.asarray(trajectory.option)
    if (option < 0).any() or (option >= num_options).any():
        raise ValueError(f"an option of the trajectory is not below {num_options}")
    going = ~trajectory.terminal
    pairs = (
        (np.asarray(trajectory.agent), np.asarray(trajectory.interface)),
        (np.asarray(trajectory.final_agent)[going], np.asarray(trajectory.final_interface)[going]),
    )
    for agent, interface in pairs:
        if (agent < 0).any() or (interface < 0).any() or (interface >= owner.size).any():
            raise ValueError("an agent or an interface of the trajectory does not exist")
        wrong = np.flatnonzero(owner[interface] != agent)
        if wrong.size:
            z, i = int(interface[wrong[0]]), int(agent[wrong[0]])
            raise ValueError(f"interface {z} belongs to agent {owner[z]} but is shown to agent {i}")
