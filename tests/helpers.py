"""What several test files share: golden models, conversions to the file format's conventions, test statistics."""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from scipy import stats

from icsmdp_jax.core.environment import Environment
from icsmdp_jax.exact import analyse
from icsmdp_jax.exact.constants import Analysis
from icsmdp_jax.learner.exploration import behaviour_table
from icsmdp_jax.learner.icq import Inputs
from icsmdp_jax.learner.schedules import StepSize, constant
from icsmdp_jax.models.files import load_model
from icsmdp_jax.models.tabular import TabularModel

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
GOLDEN_NAMES = sorted(EXPECTED)
ROWS = ("sentence", "by_agent", "by_interface")  # of an analysis: not about the whole model, or in words
SPOKEN = (*ROWS, "warnings", "exact_mixing")  # without a line in the table that is printed


def constants(known: Any) -> dict[str, Any]:
    """The numbers of an analysis about the whole model."""
    return {name: value for name, value in known.table().items() if name not in ROWS}


@cache
def golden(name: str) -> TabularModel:
    """A golden model, read by the package."""
    return load_model(GOLDEN / f"{name}.npz")


@cache
def golden_analysis(name: str) -> Analysis:
    """Its exact analysis under the uniform behaviour policy."""
    return analyse(golden(name))


def exact_model(made: tuple[Environment, Any]) -> TabularModel:
    """The exact model of ``(env, params)``."""
    env, params = made
    return env.exact_model(params)


def as_model(arrays: dict[str, np.ndarray]) -> TabularModel:
    """A twin's model dict as the package's model."""
    return TabularModel(**arrays)  # type: ignore[arg-type]


def dense_arrays() -> dict[str, np.ndarray]:
    """Six states, two of them terminal; three interfaces, two options, masks, features: everything a file may hold."""
    rng = np.random.default_rng(0)
    return {
        "transition": rng.dirichlet(np.ones(6), size=(6, 2)),
        "duration": rng.dirichlet(np.ones(3), size=(6, 2)),
        "reward_rate": rng.normal(size=(6, 2)),
        "reward_noise": np.array(0.1),
        "agent": np.array([0, 0, 1, 1, 0, 1]),
        "interface": np.array([0, 0, 1, 1, 0, 2]),
        "gamma": np.array(0.9),
        "features": rng.normal(size=(3, 4)),
        "available": np.array([[True, True], [True, False], [True, True]]),
        "start": np.array([0.5, 0.0, 0.25, 0.25, 0.0, 0.0]),
        "terminal": np.array([False, False, False, False, True, True]),
    }


def q_interface_file(analysis: Analysis) -> np.ndarray:
    """``Q_phi [Z, O]`` as model files exchange it: NaN where unavailable or never decided."""
    q = analysis.q_phi.q
    return np.where(np.isneginf(q), np.nan, q)


def q_star_file(analysis: Analysis) -> np.ndarray:
    """``Q* [S, O]`` as model files exchange it: NaN where unavailable, 0 at terminal states."""
    q = np.where(np.isneginf(analysis.q_star.q), np.nan, analysis.q_star.q)
    return np.where(analysis.interface.model.is_terminal[:, None], 0.0, q)


def learner_inputs(
    env_params: object,
    behaviour: np.ndarray,
    step_size: StepSize | None = None,
    data: object = None,
    radius: float = 0.0,
    epsilon: float = 1.0,
) -> Inputs:
    """Traced inputs of a run, constant step 0.1 by default."""
    return Inputs(
        env_params=env_params,
        data=data,
        behaviour=behaviour_table(behaviour),
        step_size=constant(0.1) if step_size is None else step_size,
        radius=jnp.float32(radius),
        epsilon=jnp.float32(epsilon),
    )


def examples(count: int) -> settings:
    """The same ``count`` cases in every run of the whole suite, a third of them in the fast one (see conftest.py)."""
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    share = settings.get_profile(settings.get_current_profile_name()).max_examples / 100
    return settings(max_examples=round(count * share), deadline=None, derandomize=True, suppress_health_check=slow)


def chi_square(counts: np.ndarray, law: np.ndarray) -> float:
    """p-value of observed counts under a law; cells expected fewer than 8 times are pooled.

    Raises:
        AssertionError: if an outcome of probability 0 was observed.
    """
    counts, law = counts.reshape(-1).astype(float), law.reshape(-1)
    assert not counts[law <= 0].any(), "an impossible outcome was drawn"
    expected = law * counts.sum()
    rare = expected < 8
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 8:  # too little even together: join the smallest regular cell
        rest, drawn = expected[-1], observed[-1]
        expected, observed = expected[:-1], observed[:-1]
        if expected.size == 0:
            return 1.0
        least = int(expected.argmin())
        expected[least] += rest
        observed[least] += drawn
    if expected.size < 2:
        return 1.0
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return float(stats.chi2.sf(statistic, expected.size - 1))


def same_bits(first: object, second: object) -> bool:
    """Whether two arrays agree in dtype, shape and every bit."""
    a, b = np.asarray(first), np.asarray(second)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def refused(path: Path) -> str:
    """The message with which a file is refused: one line that begins with the file's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(ValueError) as caught:
            load_model(path)
    assert type(caught.value) is ValueError
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500 + len(str(path))
    return message.removeprefix(f"{path}: ")
