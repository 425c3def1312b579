"""What do the stages of the benchmark of an accelerator compute and measure?

python -m benchmarks.device_stages STAGE FOLDER tiny|full prints JSON lines. ``reference`` runs on a CPU and leaves its
arrays in FOLDER, where ``agreement`` finds them.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.92")

import jax
import jax.numpy as jnp
import numpy as np
import optax

import icsmdp_jax as ic
from benchmarks.common import Record, Timing, bench_model, emit, record, seconds
from benchmarks.environments import ours
from benchmarks.learner_throughput import learners
from icsmdp_jax.core.sampling import random_words
from icsmdp_jax.devices.placement import CELLS, REPLICAS, device_grid, device_memory
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.exact.comparison import comparison, linear_process
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.learner import schedules
from icsmdp_jax.learner.exploration import uniform_option
from icsmdp_jax.learner.forecast import forecast
from icsmdp_jax.learner.train import CHUNK, _compiled, replica_keys, stack_inputs, train

NAME = "device"
REPLICA_COUNTS = (10**3, 10**4, 10**5, 10**6, 10**7)
LARGE = 10**6  # replicas from which a call is shorter
WIDTH = 32  # of the nets that have to agree
Outcome = dict[str, np.ndarray]


def once(wall: float, cpu: float) -> Timing:
    """One measurement as a timing."""
    return Timing(np.array([wall]), np.array([cpu]))


def tabular_case(tiny: bool, constant: bool, kind: str = "tabular") -> Outcome:
    """Parameters after a run of the replica learner, last and average."""
    learner, inputs = learners(bench_model())[kind]
    if constant:
        inputs = inputs._replace(step_size=schedules.constant(0.05))
    replicas, samples = (8, CHUNK) if tiny else (256, 5 * CHUNK)
    snapshot = train(learner, [inputs], jax.random.key(0), replicas, [samples], executor="xla").snapshots[-1]
    return {"last": np.asarray(snapshot.last), "total": np.asarray(snapshot.total)}


def net_case(tiny: bool, precision: str | None) -> Outcome:
    """Parameters of nets after a few updates, and what they say of their own errors."""
    env, params = ic.make("planted", gap=0.5)
    one = ic.setup(env, params, network="mlp", width=WIDTH, copies=64)
    with jax.default_matmul_precision(precision):
        state, curves = ic.train(one, jax.random.key(0), updates=5 if tiny else 40)
    leaves = jax.tree.leaves(state.params)
    return {f"params{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)} | {"reward": np.asarray(curves.reward)}


def walk(name: str, copies: int, steps: int) -> Callable[[], Any]:
    """All handoffs of an environment under uniformly random options: a function to compile."""
    env, params = ic.make(name)
    split = env.words_per_step

    def run() -> Any:
        key_start, key_words = jax.random.split(jax.random.key(0))
        carry = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(key_start, copies), params)
        words = random_words(key_words, steps * copies, split + 1).reshape(steps, copies, split + 1)

        def one(drawn: Any, handoff: Any, state: Any) -> Any:
            option = uniform_option(drawn[split], handoff.mask)
            return env.step_from_words(drawn[:split], state, option, params)

        def body(carry: Any, drawn: Any) -> Any:
            handoff, state = jax.vmap(one)(drawn, *carry)
            return (handoff, state), handoff

        return jax.lax.scan(body, carry, words)[1]

    return run


def walks(tiny: bool) -> Iterator[tuple[str, Outcome, Timing]]:
    """Every environment's handoffs; programs are compiled side by side."""
    names = ("planted", "voting") if tiny else ic.environments()
    lowered = {name: jax.jit(walk(name, 16, 8 if tiny else 64)).lower() for name in names}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = dict(zip(lowered, pool.map(lambda one: one.compile(), lowered.values()), strict=True))
    for name, program in compiled.items():
        timing = once(*seconds(program))
        yield name, {key: np.asarray(leaf) for key, leaf in program()._asdict().items()}, timing


def outcomes(tiny: bool, unfused: bool) -> Iterator[tuple[str, float, Outcome, Timing]]:
    """What has to agree: name, largest relative difference allowed (0: the same bits), arrays and time.

    Compilers may round a product and a sum once or twice, and those of CPUs and GPUs choose differently. ``unfused`` is
    said where flags forbid it: then tables whose steps need no logarithm have to get the same bits.
    """
    constant: tuple[float, Callable[[], Outcome]] = (0.0 if unfused else 1e-6, partial(tabular_case, tiny, True))
    if unfused:
        cases = {"tabular, constant steps, unfused": constant}
    else:
        cases = {"tabular, constant steps": constant} | fused_cases(tiny)
    for name, (allowed, run) in cases.items():
        begin, cpu = time.perf_counter(), time.process_time()
        found = run()
        yield name, allowed, found, once(time.perf_counter() - begin, time.process_time() - cpu)
    for name, found, timing in walks(tiny):
        yield f"environment {name}{', unfused' * unfused}", 1e-6, found, timing


def fused_cases(tiny: bool) -> dict[str, tuple[float, Callable[[], Outcome]]]:
    """What need not have the same bits."""
    return {
        "tabular, steps by visits": (1e-6, partial(tabular_case, tiny, False)),
        "linear": (1e-5, partial(tabular_case, tiny, False, "linear")),
        "nets, products in float32": (1e-3, partial(net_case, tiny, None)),
        "nets, products as the device likes": (np.inf, partial(net_case, tiny, "default")),
    }


def file_of(folder: Path, name: str) -> Path:
    """Where the arrays of a case lie."""
    return folder / f"reference {name}.npz"


def reference(folder: Path, tiny: bool, unfused: bool = False) -> Iterator[Record]:
    """Computes everything that has to agree, on this machine's CPU."""
    for name, _, found, timing in outcomes(tiny, unfused):
        part = folder / "part.npz"
        np.savez(part, **found, wall_s=timing.wall, cpu_s=timing.cpu)
        part.rename(file_of(folder, name))
        yield record(NAME, {"stage": "agreement", "what": name}, "cpu", timing)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference relative to the largest entry; of integers the share that differs."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if not np.issubdtype(a.dtype, np.floating):
        return float(np.mean(a != b))
    gap = np.abs(np.asarray(a, np.float64) - b)
    if np.isnan(gap).any():
        return float("inf")
    return float(np.max(gap, initial=0.0) / max(np.max(np.abs(b), initial=0.0), 1e-30))


def compared(found: Outcome, wanted: Outcome, allowed: float) -> dict[str, Any]:
    """Whether arrays agree, and how well; ``allowed`` is the largest relative difference, 0 asks for the same bits."""
    gaps = {key: difference(found[key], wanted[key]) for key in found}
    worst = max(gaps, key=lambda key: gaps[key])
    same = all(found[key].tobytes() == wanted[key].tobytes() for key in found)
    return {
        "agrees": bool(same or (0 < allowed and gaps[worst] <= allowed)), "same_bits": same, "where": worst,
        "difference": min(gaps[worst], 1e300), "allowed": None if np.isinf(allowed) else allowed,
    }  # fmt: skip


def stepping(program: Any, state: Any, given: Any) -> Callable[[int], Any]:
    """A compiled ``advance(state, given, chunks)`` as a function of the chunks that continues where it was."""

    def step(chunks: int) -> Any:
        nonlocal state
        state = program(state, given, jnp.int32(chunks))
        return state

    return step


def paced(step: Callable[[int], Any], at_least: float, most: int) -> tuple[int, Timing]:
    """How many units of a warm step last ``at_least`` seconds, ``most`` at most, and three timings of so many."""
    first, _ = seconds(partial(step, 1))
    count = int(np.clip(at_least / first, 1, most))
    return count, Timing(*np.array([seconds(partial(step, count)) for _ in range(3)]).T)


def agreement(folder: Path, tiny: bool, unfused: bool = False) -> Iterator[Record]:
    """Compares with the CPU, case by case."""
    for name, allowed, found, timing in outcomes(tiny, unfused):
        path = file_of(folder, name)
        for _ in range(1200):
            if path.exists():
                break
            time.sleep(0.1)
        with np.load(path) as file:
            wanted = {key: file[key] for key in found}
            other = Timing(file["wall_s"], file["cpu_s"])
        facts = compared(found, wanted, allowed)
        yield record(NAME, {"stage": "agreement", "what": name}, "device", timing, ("cpu", other, 1.0), **facts)


def replicas_of_train(kind: str, counts: tuple[int, ...], tiny: bool) -> Iterator[Record]:
    """Handoffs per second of the replica learner as XLA compiles it, and its memory against the forecast."""
    learner, inputs = learners(bench_model())[kind]
    for replicas in (8,) if tiny else counts:
        chunk = 100 if replicas >= LARGE else CHUNK
        expected = forecast(learner, inputs, 1, replicas, chunk, 1, 1, 1.0, chunk=chunk)
        if expected.bytes_per_device > device_memory():
            print(f"{kind}, {replicas} replicas: left out, {expected.bytes_per_device} bytes", file=sys.stderr)
            continue
        layout = device_grid(1, replicas)
        init, advance = _compiled(learner, chunk, layout)
        placed = layout.place(stack_inputs([inputs]), CELLS)
        state = init(layout.place(replica_keys(jax.random.key(0), replicas), REPLICAS), placed)
        begin = time.perf_counter()
        program = advance.lower(state, placed, jnp.int32(1)).compile()
        compile_s = time.perf_counter() - begin

        step = stepping(program, state, placed)
        del state  # donated with the first step
        step(0)
        chunks, timing = paced(step, 0.4, 1000)
        memory = program.memory_analysis()
        facts = {
            "forecast_bytes": expected.bytes_per_device,
            "program_bytes": int(memory.temp_size_in_bytes + memory.argument_size_in_bytes),
            "handoffs": replicas * chunk * chunks,
        }
        case = {"stage": kind, "replicas": replicas}
        yield record(NAME, case, "xla", timing, None, replicas * chunk * chunks, "handoffs/s", compile_s, **facts)
        del step, program


def on_chip(folder: Path, tiny: bool) -> Iterator[Record]:
    """The Pallas kernel: its bits against XLA's and against the CPU's, then its speed for some sizes of a block."""
    from icsmdp_jax.learner.pallas_executor import Tuning, prepared

    learner, inputs = learners(bench_model())["tabular"]
    steady = inputs._replace(step_size=schedules.constant(0.05))
    replicas, samples = (8, CHUNK) if tiny else (256, 5 * CHUNK)
    path = file_of(folder, "tabular, constant steps")
    roundings: dict[str, Any] = {
        "as the compiler likes": None, "once": True, "twice": False,
        "once in rewards": (True, False), "once in targets": (False, True),
        "once in targets only, rewards as the compiler likes": (None, True),
        "twice in targets only, rewards as the compiler likes": (None, False),
    }  # fmt: skip
    for rounding, fuse in roundings.items():
        runs = {
            name: partial(train, learner, [steady], jax.random.key(0), replicas, [samples], executor=name, tuning=how)
            for name, how in (("xla", None), ("pallas", Tuning(fuse=fuse)))
        }
        found = {name: run().snapshots[-1] for name, run in runs.items()}
        tables = {name: {"last": np.asarray(one.last), "total": one.total} for name, one in found.items()}
        if path.exists():
            with np.load(path) as file:
                tables["cpu"] = {key: file[key] for key in ("last", "total")}
        timing = once(*seconds(runs["pallas"]))
        for other in tables.keys() - {"pallas"}:
            facts = compared(tables["pallas"], tables[other], 1e-6)
            what = f"kernel, products and sums rounded {rounding}, against {other}"
            yield record(NAME, {"stage": "agreement", "what": what}, "device", timing, **facts)
    best = 0
    plan = [(10**4, (32, 64, 128)), (10**6, (32, 64, 128, 256)), (10**3, ()), (10**5, ()), (10**7, ())]
    for count, blocks in [(8, (32,))] if tiny else plan:
        speeds = {}
        for block in blocks or (best,):
            chunk = 100 if count > LARGE else CHUNK
            layout = device_grid(1, count)
            init, _ = _compiled(learner, chunk, layout)
            placed = layout.place(stack_inputs([inputs]), CELLS)
            key, limit = jax.random.key(0), 2**17
            state = init(layout.place(replica_keys(key, count), REPLICAS), placed)
            given, advance = prepared(learner, [inputs], placed, limit, chunk, layout, Tuning(block=block))
            begin = time.perf_counter()
            program = advance.lower(state, given, jnp.int32(1)).compile()
            compile_s = time.perf_counter() - begin

            step = stepping(program, state, given)
            del state  # donated with the first step
            step(0)
            # Step sizes are tabulated up to the limit.
            chunks, timing = paced(step, 0.3, max(1, limit // chunk // 4 - 1))
            work = count * chunk * chunks
            speeds[block] = work / float(np.median(timing.wall))
            case = {"stage": "on_chip", "replicas": count, "block": block}
            variant = f"on chip, blocks of {block}"
            yield record(NAME, case, variant, timing, None, work, "handoffs/s", compile_s, handoffs=work)
            del step, program
        best = max(speeds, key=lambda block: speeds[block])


def tabular(folder: Path, tiny: bool) -> Iterator[Record]:
    """Tables."""
    return replicas_of_train("tabular", REPLICA_COUNTS, tiny)


def linear(folder: Path, tiny: bool) -> Iterator[Record]:
    """Linear features."""
    return replicas_of_train("linear", REPLICA_COUNTS[:4], tiny)


def neural(folder: Path, tiny: bool) -> Iterator[Record]:
    """Handoffs per second that nets of one hidden layer learn from with Adam, planted environment."""
    env, params = ic.make("planted", gap=0.5)
    sizes = [(64, 1024), (64, 65536), (256, 1024), (256, 65536), (1024, 1024), (1024, 16384)]
    for width, copies in [(8, 16)] if tiny else sizes:
        one = ic.setup(env, params, network="mlp", width=width, depth=1, copies=copies, optimiser=optax.adam)
        state = jax.jit(one.learner.init)(jax.random.key(0), one.hyper)
        go = jax.jit(partial(one.learner.run, count=8), donate_argnums=1)
        begin = time.perf_counter()
        program = go.lower(jax.random.key(1), state, one.hyper).compile()
        compile_s = time.perf_counter() - begin

        def run(calls: int, program: Any = program, one: Any = one) -> Any:
            nonlocal state
            for _ in range(calls):
                state, _ = program(jax.random.key(1), state, one.hyper)
            return state.params

        calls, timing = paced(run, 0.4, 200)
        work = calls * 8 * copies * one.learner.length
        case = {"stage": "neural", "width": width, "copies": copies}
        yield record(NAME, case, "xla", timing, None, work, "handoffs/s", compile_s, handoffs=work)


def environments(folder: Path, tiny: bool) -> Iterator[Record]:
    """Handoffs per second of every environment under random options, over copies."""
    names = ("planted", "voting") if tiny else ic.environments()
    for copies, steps in ((16, 4),) if tiny else ((10**3, 128), (10**5, 32), (10**6, 8)):
        ready: dict[str, Any] = {}

        def compile_one(name: str, copies: int = copies, steps: int = steps) -> tuple[str, Any, Any, float]:
            start, chunk = ours(name, copies, steps)
            begin = time.perf_counter()
            first = jax.jit(start)
            shapes = jax.eval_shape(start, jax.random.key(0))
            program = jax.jit(chunk, donate_argnums=0).lower(shapes, jax.random.key(0)).compile()
            return name, first, program, time.perf_counter() - begin

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, first, program, compile_s in pool.map(compile_one, names):
                ready[name] = (first, program, compile_s)
        for name, (first, program, compile_s) in ready.items():
            try:
                carry = first(jax.random.key(0))

                def run(calls: int, program: Any = program) -> Any:
                    nonlocal carry
                    for turn in range(calls):
                        carry, seen = program(carry, jax.random.key(turn))
                    return seen

                run(1)
                calls, timing = paced(run, 0.2, 200)
            except jax.errors.JaxRuntimeError as error:  # out of memory, say
                print(f"{name}, {copies} copies: {str(error).splitlines()[0]}", file=sys.stderr)
                continue
            case = {"stage": "environments", "environment": name, "copies": copies}
            work = calls * copies * steps
            yield record(NAME, case, "xla", timing, None, work, "handoffs/s", compile_s, handoffs=work)
            del carry


def moments(folder: Path, tiny: bool) -> Iterator[Record]:
    """The exact moment recursions of theorem B in float64, device against CPU in one process."""
    large = PlantedConfig(num_agents=20, gap=0.5)
    for known in (bench_model(),) if tiny else (bench_model(), _analysed(large)):
        process = linear_process(known.interface, known.q_phi.q)
        handoffs = 4 if tiny else 256 if len(process.law) < 200 else 16
        places = {"cpu": jax.local_devices(backend="cpu")[0], "device": jax.devices()[0]}
        found, times, compile_s = {}, {}, {}
        for name, place in places.items():
            run = partial(comparison, process, np.full(handoffs, 0.1), [handoffs], device=place)
            first, _ = seconds(run)
            times[name] = Timing(*np.array([seconds(run) for _ in range(1 if tiny or handoffs < 20 else 3)]).T)
            found[name], compile_s[name] = run(), max(0.0, first - float(np.median(times[name].wall)))
        gaps = [
            difference(np.asarray(getattr(found["device"], field)), np.asarray(getattr(found["cpu"], field)))
            for field in ("prediction", "bias", "certificate")
        ]
        facts = {"states": len(process.law), "parameters": len(process.start), "handoffs": handoffs}
        for name, timing in times.items():
            base = None if name == "cpu" else ("cpu", times["cpu"], handoffs)
            agrees = {} if name == "cpu" else {"agrees": max(gaps) <= 1e-10, "difference": max(gaps)}
            case = {"stage": "moments", "states": facts["states"], "parameters": facts["parameters"]}
            yield record(NAME, case, name, timing, base, handoffs, "handoffs/s", compile_s[name], **facts, **agrees)


def _analysed(config: PlantedConfig) -> Any:
    planted = planted_model(config)
    return analyse(planted.model, planted.behaviour)


def preset(folder: Path, tiny: bool) -> Iterator[Record]:
    """The whole validation of preset testing on the device."""
    import bound_validation as bv
    from icsmdp_jax.devices.cache import set_compilation_cache

    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder / "cache"))
    set_compilation_cache()
    for turn in ("cold", "compiled before"):
        with tempfile.TemporaryDirectory() as out:
            cpu, begin = time.process_time(), time.perf_counter()
            summary = bv.validate(Path(out) / "run", "testing")
            timing = once(time.perf_counter() - begin, time.process_time() - cpu)
        assert summary is not None
        facts = {"checks": summary["checks"], "violations": summary["violations"], "agrees": not summary["violations"]}
        yield record(NAME, {"stage": "preset", "programs": turn}, "testing", timing, **facts)


STAGES: dict[str, Callable[[Path, bool], Iterator[Record]]] = {
    stage.__name__: stage
    for stage in (reference, agreement, tabular, on_chip, moments, neural, linear, environments, preset)
} | {
    "unfused_reference": partial(reference, unfused=True), "unfused_agreement": partial(agreement, unfused=True)
}  # fmt: skip


def main() -> None:
    """One stage."""
    stage, folder, size = sys.argv[1:]
    for line in STAGES[stage](Path(folder), size == "tiny"):
        emit(line)


if __name__ == "__main__":
    main()
