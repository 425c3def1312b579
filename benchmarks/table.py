"""Tables of docs/performance.md from a file of measurements, so that the page says what the file says.

python -m benchmarks.table benchmarks/results/cpu-2core.jsonl          prints them
python -m benchmarks.table benchmarks/results/cpu-2core.jsonl --write  puts them into the page
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import Record

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN = "<!-- measured: made by python -m benchmarks.table, not by hand -->"
END = "<!-- end of measured -->"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns after the first are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def million(value: float) -> str:
    """A rate in millions, two digits below 10."""
    return f"{value / 1e6:.2f}" if value < 1e7 else f"{value / 1e6:.1f}"


def duration(value: float) -> str:
    """A time with a unit."""
    if value >= 1:
        return f"{value:.1f} s"
    return f"{value * 1e3:.0f} ms" if value >= 0.01 else f"{value * 1e3:.1f} ms"


def times(value: float) -> str:
    """A ratio, two digits below 10."""
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def ratio(line: Record) -> str:
    """How many times as fast as what it was measured against."""
    return times(line["ratio"]) if "ratio" in line else "1"


PEERS = ("Numba twin", "plain loop", "by hand", "QuantEcon", "gymnax", "JaxMARL", "rejax", "purejaxrl", "Stoix")


def is_peer(name: str) -> bool:
    """Whether a variant is someone else's program, or written for one purpose, and not one of ours."""
    return name == "rival" or any(peer.lower() in name.lower() for peer in PEERS)


def peers(lines: list[Record]) -> str:
    """Every ratio of ours to a peer: median over rounds, range, and by processor time; empty if there is none."""
    rows = []
    for line in lines:
        if is_peer(line.get("against", "")) and not is_peer(line["variant"]) and line["variant"] != "environment only":
            case = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in line["case"].items())
            rows.append([
                line["variant"], case, line["against"], times(line["ratio"]),
                f"{times(line['ratio_low'])} to {times(line['ratio_high'])}", times(line["ratio_cpu"]),
                duration(line["value"]) if line["unit"] == "s" else f"{million(line['value'])} M/s",
                str(line["repetitions"]),
            ])  # fmt: skip
    head = ["", "of", "beside", "times as fast", "range", "by CPU time", "ours", "rounds"]
    return markdown(head, rows) if rows else ""


def throughput(lines: list[Record]) -> str:
    """Rates of learner_throughput: one row per number of replicas."""
    variants = list(dict.fromkeys(line["variant"] for line in lines))
    counts = list(dict.fromkeys(line["case"]["replicas"] for line in lines))
    found = {(line["case"]["replicas"], line["variant"]): line for line in lines}
    rows = [[str(n), *(million(found[n, v]["value"]) for v in variants)] for n in counts]
    return markdown(["replicas", *variants], rows)


def beside_twin(lines: list[Record]) -> str:
    """Rates of numba_twin, with both ratios."""
    rows = [
        [
            line["variant"], line["case"]["learner"], str(line["case"]["replicas"]), line.get("against", ""),
            million(line["value"]),
            f"{million(line['low'])} to {million(line['high'])}", million(line["extra"]["handoffs"] / line["cpu_s"]),
            ratio(line), f"{line.get('ratio_cpu', 1.0):.2f}",
        ]
        for line in lines
    ]  # fmt: skip
    head = ["", "learner", "replicas", "beside", "M handoffs/s", "range", "M per CPU second"]
    return markdown([*head, "times as fast", "by CPU time"], rows)


def rates(lines: list[Record]) -> str:
    """Rates with their spread, per processor second, and against the first of each group."""
    rows = [
        [
            line["variant"],
            str(line["case"]["replicas"]),
            million(line["value"]),
            f"{million(line['low'])} to {million(line['high'])}",
            million(line["extra"]["handoffs"] / line["cpu_s"]),
            ratio(line),
        ]
        for line in lines
    ]
    return markdown(["", "replicas", "M handoffs/s", "range", "M per CPU second", "times as fast"], rows)


def own_networks(lines: list[Record]) -> str:
    """Rates of dispatch, in groups that were measured together."""
    rows = [
        [
            line["variant"],
            str(line["case"]["agents"]),
            str(line["case"]["layers"]),
            str(line["case"]["handoffs"]),
            line["case"]["turns"],
            line["case"]["interfaces"],
            million(line["value"]),
            f"{million(line['low'])} to {million(line['high'])}",
            ratio(line),
            f"{line.get('ratio_cpu', 1.0):.2f}",
        ]
        for line in lines
    ]
    head = ["", "agents", "hidden layers", "handoffs per update", "turns", "evaluated", "M handoffs/s", "range"]
    return markdown([*head, "times as fast", "by CPU time"], rows)


def environments(lines: list[Record]) -> str:
    """Rates of all environments, slowest last, as multiples of two that people know."""
    rows = [
        [
            line["case"]["environment"],
            million(line["value"]),
            f"{million(line['low'])} to {million(line['high'])}",
            ratio(line),
            f"{line['extra'].get('of_cartpole', float('nan')):.2f}",
        ]
        for line in sorted(lines, key=lambda line: -line["value"])
    ]
    base = next((line["against"] for line in lines if "against" in line), "")
    return markdown(["", "M handoffs/s", "range", f"times {base}", "times CartPole-v1"], rows)


def solvers(lines: list[Record]) -> str:
    """Times of the solvers by model."""
    rows = [
        [
            line["variant"],
            f"{line['case']['states']} x {line['case']['options']}",
            f"{line['case']['least_modulus']:g} to {line['case']['largest_modulus']:g}",
            str(line["extra"]["rounds"]),
            duration(line["value"]),
            ratio(line),
        ]
        for line in lines
    ]
    return markdown(["", "states x options", "discount per handoff", "rounds", "time", "times as fast"], rows)


def parts(lines: list[Record]) -> str:
    """Times of the analysis: one row per part, one column per number of states."""
    counts = list(dict.fromkeys(line["case"]["states"] for line in lines))
    found = {(line["variant"], line["case"]["states"]): line for line in lines}
    names = dict.fromkeys(line["variant"] for line in lines)
    rows = [[name, *(duration(found[name, count]["value"]) for count in counts)] for name in names]
    if "the same by hand" in names:
        compared = (ratio(found["whole analysis", count]) for count in counts)
        rows.append(["whole analysis, times as fast as by hand", *compared])
    return markdown(["", *(f"{count} states" for count in counts)], rows)


def large(lines: list[Record]) -> str:
    """Time and peak memory of large_models: one row per number of states and analysis."""
    rows = [
        [
            line["variant"],
            str(line["case"]["states"]),
            str(line["case"]["interfaces"]),
            duration(line["value"]),
            duration(line["cpu_s"]),
            f"{line['extra']['peak_bytes'] / 1e9:.2f} GB",
        ]
        for line in lines
    ]
    return markdown(["", "states", "interfaces", "time", "CPU time", "peak memory"], rows)


def scaled(lines: list[Record]) -> str:
    """Rates and memory of scaling: measured against the forecast, one row per number of devices."""
    rows = []
    for line in lines:
        case, extra = line["case"], line["extra"]
        timed = "forecast_s" in extra
        memory = extra["program_bytes"] if timed else line["value"]
        sizes = [f"{size / 1e6:.1f}" for size in (memory, extra["forecast_bytes"])]
        rows.append([
            line["variant"], str(case.get("cells", 1)), str(case["replicas"]),
            million(line["value"]) if timed else "", duration(line["wall_s"]) if timed else "",
            duration(extra["forecast_s"]) if timed else "", *sizes,
        ])  # fmt: skip
    head = ["", "cells", "replicas", "M handoffs/s", "time", "forecast", "MB per device", "forecast"]
    return markdown(head, rows)


def decisions(lines: list[Record]) -> str:
    """Microseconds of a decision, and of absorbing a segment."""
    rows = [[line["variant"], f"{1e6 * line['low']:.1f}", f"{1e6 * line['cpu_s']:.1f}"] for line in lines]
    return markdown(["", "microseconds, shortest round", "of CPU time"], rows)


def trained(lines: list[Record]) -> str:
    """Rates of peers_training, in groups that were measured together."""
    rows = [
        [
            line["variant"], *(str(line["case"][name]) for name in ("width", "layers", "batch")),
            million(line["value"]), f"{million(line['low'])} to {million(line['high'])}", ratio(line),
            f"{line.get('ratio_cpu', 1.0):.2f}",
        ]
        for line in lines
    ]  # fmt: skip
    head = ["", "width", "hidden layers", "batch", "M steps/s", "range", "times as fast", "by CPU time"]
    return markdown(head, rows)


def exponent(lines: list[Record]) -> float:
    """Slope of the logarithm of the time over the logarithm of the size, least squares over the larger half."""
    upper = sorted(lines, key=lambda line: line["case"]["count"])[len(lines) // 2 - 1 :]
    counts, times = ([np.log(line["case"]["count"]) for line in upper], [np.log(line["low"]) for line in upper])
    return float(np.polyfit(counts, times, 1)[0])


def growing(lines: list[Record]) -> str:
    """Processor time at each size, and the exponent of its growth."""
    rows = []
    for what in dict.fromkeys(line["variant"] for line in lines):
        own = [line for line in lines if line["variant"] == what]
        spans = ", ".join(f"{line['case']['count']}: {duration(line['low'])}" for line in own)
        rows.append([what, spans, f"{exponent(own):.2f}"])
    return markdown(["", "processor time, shortest of its rounds", "exponent, larger half"], rows)


SECTIONS = (
    ("learner_throughput", "Handoffs per second, in millions", throughput),
    ("numba_twin", "IC-Q beside a hand-written Numba program", beside_twin),
    ("dispatch", "Networks of width 256, one for all agents or one for each", own_networks),
    ("peers_training", "Training on CartPole, IC-Q beside DQN", trained),
    ("environments", "Environments under random options, 1024 copies", environments),
    ("random_numbers", "Ways of drawing random numbers, tabular IC-Q", rates),
    ("devices", "Host devices, tabular IC-Q", rates),
    ("scaling", "Time and memory of a sweep, measured and forecast", scaled),
    ("growth", "How processor time grows", growing),
    ("solver", "Exact solvers, same certified error", solvers),
    ("exact_analysis", "Parts of `icsmdp analyse`", parts),
    ("large_models", "Exact analysis of large models", large),
    ("runtime", "Decisions of the runtime, without JAX", decisions),
)


def where(lines: list[Record]) -> str:
    """What the lines were measured on, as one sentence."""
    machine = lines[0]["machine"]
    versions = ", ".join(f"{name} {machine[name]}" for name in ("jax", "jaxlib", "numpy", "scipy"))
    return (
        f"Measured {machine['date']} on {machine['cores']} cores of a processor that calls itself {machine['cpu']} "
        f"({machine['platform']}), Python {machine['python']}, {versions}."
    )


def render(path: Path) -> str:
    """All tables of a file, under a line that says what they were measured on."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    out = [where(lines)]
    beside = peers(lines)
    if beside:
        out += ["**Beside programs of others** (all of the lines below that name one)", beside]
    for name, title, table in SECTIONS:
        chosen = [line for line in lines if line["benchmark"] == name]
        if chosen:
            out += [f"**{title}** (`{name}`)", table(chosen)]
    return "\n\n".join(out)


def embed(page: str, tables: str) -> str:
    """The page with its tables replaced.

    Raises:
      ValueError: if the page does not have exactly one place for them.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"expected one {BEGIN!r} and one {END!r} in the page")
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}"


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Tables of docs/performance.md from a file of measurements.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--write", action="store_true", help=f"put them into {PAGE.name} instead of printing them")
    chosen = parser.parse_args(arguments)
    tables = render(chosen.file)
    if chosen.write:
        PAGE.write_text(embed(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")
    else:
        print(tables)


if __name__ == "__main__":
    main()
