"""What the commands analyse, advise, solve, learn and export do, as functions of file names with plain results."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from icsmdp_jax.exact.advice import Advice, advise
from icsmdp_jax.exact.chain import structure_warnings
from icsmdp_jax.exact.constants import Analysis, analyse
from icsmdp_jax.exact.interface import InterfaceModel, solve_both
from icsmdp_jax.exact.moments import as_dense
from icsmdp_jax.exact.solved import solved
from icsmdp_jax.io import atomic_write, check_folder, file_target
from icsmdp_jax.models.files import load_model, other_kind, read_arrays

DENSE_OUTPUT_LIMIT = 2**31  # bytes of the full kernel that `solve --full` is willing to write


def read_behaviour(source: str) -> np.ndarray | None:
    """A behaviour policy from ``uniform`` (None) or a ``.npy`` file, never unpickled.

    Raises:
      ValueError: in one line, if the file cannot be read as an array.
    """
    if source == "uniform":
        return None
    try:
        law = np.load(source, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{source}: no such file, expected 'uniform' or a .npy file [Z, O]") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        kind = other_kind(source)
        found = f"is {kind}, expected" if kind else f"cannot be read as .npy ({' '.join(str(error).split())}), expected"
        raise ValueError(f"{source}: {found} a .npy file [Z, O]") from None
    if not isinstance(law, np.ndarray):
        raise ValueError(f"{source}: expected a single .npy array [Z, O]")
    return law


def warned(interface: InterfaceModel, more: Sequence[str] = ()) -> list[str]:
    """The warnings about a model's structure, and further ones, which also go to stderr."""
    found = [*structure_warnings(interface.model, interface.chain), *more]
    for line in found:
        print(f"icsmdp: warning: {line}", file=sys.stderr)
    return found


def analyse_file(model: str, behaviour: str = "uniform") -> dict[str, Any]:
    """The table of constants of a model file; see ``Analysis.table``.

    Raises:
      ValueError: for bad input, in one line.
    """
    known = analyse(load_model(model), read_behaviour(behaviour))
    warned(known.interface, known.limit.warnings)
    return known.table()


def advise_file(model: str, behaviour: str = "uniform", error: float | None = None) -> Advice:
    """What to show to whom on a model file; see ``advise``.

    Raises:
      ValueError: for bad input, in one line.
    """
    found = advise(load_model(model), error, read_behaviour(behaviour))
    for line in found.warnings:
        print(f"icsmdp: warning: {line}", file=sys.stderr)
    return found


def solve_file(model: str, behaviour: str, out: str, full: bool = False) -> dict[str, Any]:
    """Writes the exact solutions of a model file and returns a short summary.

    Raises:
      ValueError: for bad input, in one line; nothing is written then.
    """
    file_target(out, "--out")
    loaded = load_model(model)
    law = read_behaviour(behaviour)
    size = 8 * loaded.num_states**2 * loaded.num_options
    if full and size > DENSE_OUTPUT_LIMIT:
        raise ValueError(f"--full: the kernel would take {size} bytes, expected at most {DENSE_OUTPUT_LIMIT}")
    interface, q_phi, q_star = solve_both(loaded, law)
    found = solved(interface, q_phi, q_star)
    arrays = {name: getattr(found, name) for name in ("q_star", "q_interface", "stationary", "weights")}
    if full:
        shape = (loaded.num_states, loaded.num_options, loaded.num_states)
        arrays["discounted"] = as_dense(interface.moments.discounted).reshape(shape)
    with atomic_write(out) as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    finite = np.isfinite(arrays["q_interface"])
    return {
        "out": out,
        "largest_q_star": float(np.nanmax(np.abs(arrays["q_star"]))),
        "largest_q_interface": float(np.abs(arrays["q_interface"][finite]).max()),
        "q_star_error_bound": q_star.error_bound,
        "q_interface_error_bound": q_phi.error_bound,
        "num_states": loaded.num_states,
        "num_interfaces": loaded.num_interfaces,
        "warnings": warned(interface),
    }


def _bar() -> Any:
    """A progress bar that shows up after two seconds, if stderr is a terminal."""
    from tqdm import tqdm

    return tqdm(unit=" handoffs", unit_scale=True, file=sys.stderr, delay=2, leave=False, disable=None)


LEAST_AUDIT = 64  # handoffs: two for each batch


def learn_file(
    model: str | None,
    behaviour: str,
    out: str,
    samples: int,
    replicas: int,
    seed: int,
    function_class: str,
    width: int,
    tail: int | None,
    schedule: str | None = None,
    audited: int | None = None,
    env: str | None = None,
) -> dict[str, Any]:
    """Runs IC-Q on a model file or an environment, writes ``q_last`` and ``q_average`` and returns what is known.

    That is errors and speed, the audit if one is asked for, and with a schedule its prediction and certificate. Of an
    environment without an exact model it is the audit and the speed.

    Raises:
      ValueError: for bad input, in one line; nothing is written then.
    """
    file_target(out, "--out")
    if (model is None) == (env is None):
        raise ValueError("learn: expected either a model file or --env NAME")
    if audited is not None and audited < LEAST_AUDIT:
        raise ValueError(f"--audit {audited}: expected at least {LEAST_AUDIT} handoffs")
    known: Analysis | None = None
    simulated = None
    if model is not None:
        known = analyse(load_model(model), read_behaviour(behaviour))
    else:
        from icsmdp_jax.envs import registry

        simulated = registry.make(str(env))
        if simulated[0].has_exact_model:
            known = analyse(simulated[0].exact_model(simulated[1]), read_behaviour(behaviour))
        elif function_class != "tabular":
            raise ValueError(f"--function-class {function_class}: expected tabular, {env} has no exact model")
        elif schedule is not None:
            raise ValueError(f"--schedule {schedule}: expected none, {env} has no exact model to predict from")
        elif behaviour != "uniform":
            raise ValueError(f"--behaviour {behaviour}: expected uniform, {env} has no exact model")
    from icsmdp_jax.learner.cautions import precision_warnings
    from icsmdp_jax.learner.experiment import learn
    from icsmdp_jax.learner.model_free import learn_without_model

    with _bar() as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done)

        if known is not None:
            outcome = learn(
                known, samples, replicas, seed, function_class, width, tail, progress, schedule, audited or 0, simulated
            )
        else:
            assert simulated is not None
            outcome = learn_without_model(*simulated, samples, replicas, seed, tail, progress, audited)
    warnings = [] if known is None else warned(known.interface, precision_warnings(known))
    for line in outcome.remarks:
        print(f"icsmdp: {line}", file=sys.stderr)
    numbers = [value for value in outcome.summary.values() if isinstance(value, float)]
    if not all(np.isfinite(found).all() for found in (numbers, outcome.q_last, outcome.q_average)):
        raise ValueError(f"{model or env}: the learned values are not finite; nothing is written")
    with atomic_write(out) as stream:
        np.savez_compressed(stream, q_last=outcome.q_last, q_average=outcome.q_average)
    return {"out": out, **outcome.summary, "warnings": warnings}


def export_file(model: str, behaviour: str, out: str, learned: str | None = None) -> dict[str, Any]:
    """Writes the policy of a model file's ``Q_phi``, or of what ``icsmdp learn`` wrote, for ``icsmdp_jax.runtime``.

    Raises:
      ValueError: for bad input, in one line; nothing is written then.
    """
    from icsmdp_jax import __version__
    from icsmdp_jax.learner.export import table_policy
    from icsmdp_jax.runtime.policies import save_policy

    check_folder(out)
    loaded = load_model(model)
    if learned is None:
        q = analyse(loaded, read_behaviour(behaviour)).q_phi_table
    else:
        arrays = read_arrays(learned)
        if "q_average" not in arrays or arrays["q_average"].ndim != 3:
            raise ValueError(f"{learned}: q_average: missing, expected a file that icsmdp learn wrote")
        q = arrays["q_average"].mean(axis=0)
    policy = table_policy(loaded, q)
    save_policy(out, policy, f"icsmdp_jax {__version__}")
    return {
        "out": out,
        "agents": len(policy.agents),
        "interfaces": sum(len(one.params["q"]) for one in policy.agents),
        "options": len(policy.options),
        "value_range": list(policy.value_range or ()),
    }
