"""No result depends on JAX's settings for default dtypes: 64 bits on or off, dtypes promoted or not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from icsmdp_jax.learner.methods import METHODS
from icsmdp_jax.learner.networks import FUNCTION_CLASSES
from tests.bound_validation.runs import icsmdp
from tests.command_line import contents, parsed
from tests.helpers import GOLDEN
from tests.programs import programs

EVERY = tuple(programs())
CLOCKS = ("handoffs_per_second", "compile_s", "run_s")  # what no two runs agree on
RUN = ("IC-Q, tabular",)  # compiled and run both ways; the slow part does that with all
# Every method and every class is traced quickly, but not every pair of them.
PAIRS = {f"{method}, {kind}" for method in METHODS for kind in FUNCTION_CLASSES if method != "ic_q" and kind != "mlp"}
LATER = {name for name in EVERY if name.startswith(("central learner of", "optimiser", "environment routing-"))} | PAIRS
# Large, or another one is made of the same parts.
LATER |= {f"environment {name}" for name in ("cpu-sort3", "cpu-sort4", "workshop", "routing", "voting", "orch-workers")}
LATER |= {"full_information, mlp", "federated, mlp", "target n-handoff", "target watkins", "explore boltzmann"}
LATER |= {"target peng", "target naive", "shared, mlp", "no_message, mlp", "immediate, mlp", "roles, two-layer"}
LATER |= {"adaptable, tables, adapt=False", "packets, shortest-path", "packets, q-routing", "IC-Q, two-layer, frozen"}
LATER |= {"environment cpu-sort2", "programs that sort", "environment math-pipeline"}
LATER |= {"IC-Q, linear", "IC-Q, mlp", "roles, linear", "packets, random", "packets, full-echo", "packets, icq-queue"}
LATER |= {"target one-handoff", "explore behaviour", "IC-Q on the shared clock", "adaptable, tables, adapt=True"}
LATER |= {"situation as a vector", "packets, icq"}
LATER -= {"optimiser near the start"}


def some(names: Collection[str], slow: Collection[str]) -> Any:
    """Parameters of a test, of which some are slow."""
    marked = [pytest.param(name, marks=pytest.mark.slow) if name in slow else name for name in names]
    return pytest.mark.parametrize("name", marked)


@contextmanager
def other_settings() -> Iterator[None]:
    """Both at once: whatever has a default dtype is wide, and whatever mixes dtypes is an error."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield


def bits(tree: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    """Dtype, shape and bytes of every array; keys as their data, Python numbers as they are passed on."""
    found = []
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        found.append((str(array.dtype), array.shape, array.tobytes()))
    return found


def widest(results: Any) -> int:
    """Bytes of an entry of the array with the widest entries; keys aside."""
    leaves = [leaf for leaf in jax.tree.leaves(results) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    return max(leaf.dtype.itemsize for leaf in leaves)


def equations(jaxpr: Any) -> Iterator[Any]:
    """All of them, those of inner programs included."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for part in value if isinstance(value, (tuple, list)) else [value]:
                inner = getattr(part, "jaxpr", part)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def wide(jaxpr: Any) -> set[str]:
    """Primitives that compute in floats or words of 64 bits. Whole numbers may be int64 on the way: they are exact."""
    found = set()
    for equation in equations(jaxpr):
        for out in equation.outvars:
            if str(getattr(out.aval, "dtype", "")) in ("float64", "uint64", "complex128"):
                found.add(f"{equation.primitive.name} -> {out.aval.str_short()}")
    return found


@some(EVERY, LATER)
def test_every_program_is_the_same_under_other_settings(name):
    """Classes, methods, environments, learners: same inputs bit for bit, nothing wide inside, same types outside.

    Without 64 bits no result has a wide type, and with them only those have that are wide by default.
    """
    expected = bits(programs()[name]()[1])
    with other_settings():
        run, arguments = programs()[name]()
        traced, results = jax.make_jaxpr(run, return_shape=True)(*arguments)
    assert bits(arguments) == expected
    assert not wide(traced.jaxpr) and widest(results) <= 4


@some(EVERY, set(EVERY) - set(RUN))
def test_results_have_the_same_bits(name):
    run, arguments = programs()[name]()
    expected = bits(jax.jit(run)(*arguments))
    with other_settings():
        run, arguments = programs()[name]()
        assert bits(jax.jit(run)(*arguments)) == expected


@pytest.mark.slow  # the learner's bits are compared above, and exact analyses are NumPy's
def test_commands_give_the_same_numbers(tmp_path):
    """Tables learned by ``learn``, and the moments of theorem B in ``bound``, which are float64 whatever is set."""
    model, out = GOLDEN / "desk.npz", tmp_path / "learned.npz"

    def numbers():
        learned = icsmdp("learn", str(model), *f"--samples 60 --replicas 2 --out {out} --json".split())
        bound = icsmdp("bound", str(model), "--samples", "20", "40", "--json")
        assert (learned.code, bound.code) == (0, 0)
        summary = {name: value for name, value in parsed(learned).items() if name not in CLOCKS}
        return summary, bits(contents(out)), parsed(bound)

    expected = numbers()
    with other_settings():
        assert numbers() == expected


def test_what_is_wide_is_found():
    """The check itself: a default dtype inside a loop, and one inside a compiled function."""
    with jax.enable_x64(True):
        loop = jax.make_jaxpr(lambda x: jax.lax.scan(lambda c, _: (c + jnp.ones(()), None), x, None, 2)[0])
        assert wide(loop(np.float64(0)).jaxpr)
        assert wide(jax.make_jaxpr(jax.jit(lambda key: jax.random.uniform(key) > 0.5))(jax.random.key(0)).jaxpr)
        assert not wide(jax.make_jaxpr(lambda x: x[jnp.arange(2)])(np.zeros(3, np.float32)).jaxpr)
