"""Memory is forecast before it is taken: what does not fit is refused with what would fit, and nothing is allocated."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bound_validation.sweep.families import resolve
from bound_validation.sweep.sizes import planted_size, random_size
from icsmdp_jax.devices import placement
from icsmdp_jax.devices.placement import MEMORY_VARIABLE
from icsmdp_jax.envs.planted.model import PlantedConfig, planted_model
from icsmdp_jax.learner import experiment, memory, train
from icsmdp_jax.learner.memory import Need, Sizes, in_units, largest, need
from icsmdp_jax.models.random import random_model
from tests.bound_validation.runs import icsmdp, refused
from tests.command_line import PLAIN
from tests.helpers import golden_analysis

UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def learn(out: Path, *more: object, samples: int = 10):
    return icsmdp("learn", PLAIN, "--samples", str(samples), "--out", out, *map(str, more))


def forecasts(line: str) -> list[float]:
    """The quantities of memory that a line names, in bytes."""
    return [float(number.replace(",", "")) * UNITS[unit] for number, unit in re.findall(r"([\d.,]+) (\w+)", line)
            if unit in UNITS]  # fmt: skip


@pytest.fixture
def sizes(monkeypatch) -> list[Sizes]:
    """What is forecast; nothing is learned."""
    seen: list[Sizes] = []
    real = memory.check

    def check(found: Sizes, replicas: int) -> None:
        seen.append(found)
        real(found, replicas)
        raise ZeroDivisionError("it fits")

    monkeypatch.setattr(memory, "check", check)
    return seen


def test_a_billion_replicas_are_refused_with_what_would_fit(tmp_path, sizes):
    outcome = learn(tmp_path / "l.npz", "--replicas", 10**9)
    refused(outcome, "replicas = 1000000000: the forecast is", "on each device", "on the host", "would fit")
    wanted, host, *limits = forecasts(outcome.err)
    # 12 interfaces with 2 options: a table is 96 bytes, three copies of the state, 2 checkpoints with sums in float64
    assert wanted > 10**9 * 3 * 96 and host > 10**9 * 2 * 3 * 96
    assert limits == pytest.approx([placement.device_memory(), placement.host_memory()], rel=0.01)
    most = int(outcome.err.split()[-3])
    assert memory.fits(need(sizes[0], most)) and not memory.fits(need(sizes[0], int(1.2 * most)))
    assert list(tmp_path.iterdir()) == []
    assert learn(tmp_path / "l.npz", "--replicas", most).code == 3  # it gets as far as learning: see the fixture


@pytest.mark.parametrize(("replicas", "fits"), [(1, True), (20, True), (2000, False)])
def test_the_variable_for_device_memory_decides(replicas, fits, tmp_path, sizes, monkeypatch):
    monkeypatch.setenv(MEMORY_VARIABLE, "100000")
    outcome = learn(tmp_path / "l.npz", "--replicas", replicas)
    if fits:
        assert outcome.code == 3 and "it fits" in outcome.err
    else:
        refused(outcome, f"replicas = {replicas}", "97.7 KiB")


def test_not_even_one_replica(tmp_path, monkeypatch, sizes):
    monkeypatch.setenv(MEMORY_VARIABLE, "1000")
    refused(learn(tmp_path / "l.npz", "--replicas", 5), "not even one would fit")


def test_outputs_on_the_host_count_too(tmp_path, sizes, monkeypatch):
    """A device without limit does not help where the tables of all replicas do not fit on the host."""
    monkeypatch.setenv(MEMORY_VARIABLE, str(10**18))
    refused(learn(tmp_path / "l.npz", "--replicas", 10**9), "would fit")
    monkeypatch.setattr(memory, "host_memory", lambda: 1000)
    refused(learn(tmp_path / "l.npz", "--replicas", 5), "not even one would fit")


@pytest.mark.parametrize("name", ["linear", "mlp", "two-layer"])
def test_widths_that_do_not_fit(name, tmp_path, sizes):
    outcome = learn(tmp_path / "l.npz", "--replicas", 1, "--function-class", name, "--width", 10**13)
    refused(outcome, "width = 10000000000000: the forecast is", "would fit")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_fits_once_and_not_as_a_learner(tmp_path, sizes):
    refused(learn(tmp_path / "l.npz", "--replicas", 1, "--function-class", "mlp", "--width", 10**6), "not even one")


@pytest.mark.parametrize("more", [("--samples", 10**18), ("--samples", 10**18, "--tail", 10**17)])
def test_more_handoffs_than_can_be_counted(more, tmp_path):
    refused(learn(tmp_path / "l.npz", "--replicas", 2, *more), "samples = 1000000000000000000: expected at most")


def test_numbers_beyond_64_bits_are_refused(tmp_path):
    for option in ("--samples", "--replicas", "--width", "--tail"):
        refused(learn(tmp_path / "l.npz", option, "1e300"), option, "expected a number from 1 to 2**63 - 1")
        refused(learn(tmp_path / "l.npz", option, 2**63), option, "expected a number from 1 to 2**63 - 1")


def test_what_the_host_takes_is_what_was_forecast():
    """Peak of NumPy's arrays while tables are fetched and measured, which the forecast covers and does not double."""
    known, replicas = golden_analysis("plain"), 20_000
    seen: list[Sizes] = []
    real = memory.check
    memory.check = lambda found, count: seen.append(found)
    try:
        experiment.learn(known, 2, 2, 0)  # compiled once, before anything is measured
        tracemalloc.start()
        outcome = experiment.learn(known, 2, replicas, 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        memory.check = real
    assert outcome.q_average.shape[0] == replicas
    assert 0.4 * need(seen[-1], replicas).host < peak < need(seen[-1], replicas).host


def test_need_counted_by_hand():
    sizes = Sizes(state=100, params=40, inputs=7, words=lambda columns: 3 * columns, lanes=4, checkpoints=2, values=5)
    columns = -(-10 // placement.device_grid(1, 10).columns)
    assert need(sizes, 10) == Need(7 + 3 * 100 * columns + 3 * columns, 10 * (4 * 3 * 3 * 40 + 4 * 12 * 5))


@pytest.mark.parametrize(("most", "expected"), [(0, 0), (1, 1), (99, 99), (123_456, 120_000), (999, 990)])
def test_the_largest_count_that_fits(most, expected):
    assert largest(lambda count: count <= most, 10**9) == expected


def test_units():
    assert [in_units(n) for n in (0, 1023, 1024, 1536, 2**31, 3 * 2**40, 2**60)] == [
        "0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "2 GiB", "3 TiB", "1,048,576 TiB",
    ]  # fmt: skip


def test_a_prime_number_of_replicas_does_not_fill_the_memory_with_random_words(monkeypatch):
    """Of 10007 replicas no group can be made; all at once would draw 10007 * 40 kB ahead."""
    state = train.RunState(
        train.LearnerState(np.zeros(24, np.float32), np.zeros(24, np.int32), None, None, None),  # type: ignore[arg-type]
        train.CompensatedSum(np.zeros(24, np.float32), np.zeros(24, np.float32)), np.int32(0), None,  # type: ignore[arg-type]
    )  # fmt: skip
    monkeypatch.setenv(MEMORY_VARIABLE, str(2**40))
    assert train.group_size(state, 1, 10_007, 10_000) == 10_007
    monkeypatch.setenv(MEMORY_VARIABLE, str(2**28))
    assert train.group_size(state, 1, 10_007, 10_000) == 1


# Sweeps

SWEEP = """
[sweep]
name = "big"
[model]
family = "{family}"
[model.fixed]
{fixed}
[axes]
{axes}
[learner]
samples = [400]
replicas = {replicas}
"""
PRODUCT = "\n".join(f"{name} = {{from = 0.1, to = 0.2, count = 1000}}" for name in ("gap", "gamma", "hidden_flip"))


def sweep(folder: Path, family: str = "planted", fixed: str = "num_agents = 4", axes: str = "gap = [0.0, 0.1]",
          replicas: int = 4):  # fmt: skip
    place = folder / "sweep.toml"
    place.write_text(SWEEP.format(family=family, fixed=fixed, axes=axes, replicas=replicas), encoding="utf-8")
    outcome = icsmdp("sweep", place, "--out", folder / "out")
    assert not (folder / "out").exists()
    return outcome


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"replicas": 10**9}, ("replicas = 1000000000: the forecast is", "would fit")),
        ({"axes": "'learner.width' = [4, 8]", "replicas": 10**9}, ("replicas = 1000000000: the forecast is",)),
        ({"axes": "'learner.width' = [4, 10000000000000]"}, ("width = 10000000000000: the forecast is", "would fit")),
        ({"fixed": "num_agents = 10000000"}, ("cell big/gap=0", "TiB", "choose smaller sizes")),
        ({"fixed": "num_options = 100000000"}, ("TiB", "choose smaller sizes")),
        ({"fixed": "fields = [['a', 100000], ['b', 100000]]"}, ("TiB", "choose smaller sizes")),
        ({"fixed": "planted_atoms = 10000000000000"}, ("TiB", "choose smaller sizes")),
        ({"axes": "longest_duration = [1000000000000]"}, ("TiB", "choose smaller sizes")),
        (
            {"family": "random", "fixed": "seed = 1", "axes": "num_interfaces = [10, 10000000000]"},
            ("cell big/num_interfaces=10000000000", "TiB", "choose smaller sizes"),
        ),
        ({"axes": PRODUCT}, ("[axes]", "1000000000 cells", "1000000")),
    ],
)  # fmt: skip
def test_a_sweep_that_does_not_fit_is_refused_before_anything_is_written(changes, fragments, tmp_path):
    refused(sweep(tmp_path, **changes), "sweep.toml" if "[axes]" in fragments else "icsmdp", *fragments)


@pytest.mark.parametrize(
    "config",
    [
        PlantedConfig(num_agents=60),
        PlantedConfig(num_agents=20, longest_duration=1024, duration_mean=100.0),
        PlantedConfig(num_agents=50, num_options=8),
        PlantedConfig(num_agents=2, fields=(("a", 12), ("b", 12)), views=(("a",), ("a", "b"))),
    ],
)
def test_the_size_of_a_planted_model_is_what_it_takes(config):
    tracemalloc.start()
    try:
        planted_model(config)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.3 < planted_size(config) / peak < 3


def test_the_size_of_a_random_model_is_what_it_takes():
    tracemalloc.start()
    try:
        random_model(0, num_interfaces=1000, hidden=8, successors=4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.3 < random_size(1000, 8, 4, 4, 64, 8) / peak < 3
    built = resolve("random").build({"seed": 3, "num_interfaces": 12}).model
    np.testing.assert_array_equal(built.reward_rate, random_model(3, num_interfaces=12).reward_rate)
