"""Page and figure of a file that ``benchmarks.device`` has written, so that the page says what the file says.

python -m benchmarks.device_page benchmarks/results/DEVICE.jsonl
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.table import duration, markdown, million

Line = dict[str, Any]


def of_stage(lines: list[Line], *stages: str) -> list[Line]:
    """The lines of some stages."""
    return [line for line in lines if line["case"]["stage"] in stages]


def power(count: int) -> str:
    """A count as people write it."""
    return f"{count:,}".replace(",", " ")


def agreement(lines: list[Line]) -> str:
    """What agrees with the CPU, and how well."""
    rows = []
    for line in of_stage(lines, "agreement"):
        extra = line["extra"]
        found = "the same bits" if extra["same_bits"] else f"{extra['difference']:.1e} ({extra['where']})"
        wanted = "any" if extra["allowed"] is None else "the same bits" if extra["allowed"] == 0 else extra["allowed"]
        rows.append([line["case"]["what"], found, str(wanted), "yes" if extra["agrees"] else "**no**"])
    return markdown(["", "largest relative difference", "allowed", "agrees"], rows)


def learning(lines: list[Line]) -> str:
    """Rates and memory of the replica learner."""
    rows = []
    for line in of_stage(lines, "tabular", "on_chip", "linear"):
        extra, spread = line["extra"], f"{million(line['low'])} to {million(line['high'])}"
        forecast, taken = extra.get("forecast_bytes"), extra.get("program_bytes")
        share = "" if forecast is None or taken is None else f"{taken / 1e9:.3g} of {forecast / 1e9:.3g}"
        compiled = "" if line["compile_s"] is None else duration(line["compile_s"])
        stage = "linear" if line["case"]["stage"] == "linear" else "tabular"
        rows.append([f"{stage}, {line['variant']}", power(line["case"]["replicas"]), million(line["value"]), spread,
                     compiled, share])  # fmt: skip
    return markdown(["", "replicas", "M handoffs/s", "range", "compiling", "GB taken of forecast"], rows)


def nets(lines: list[Line]) -> str:
    """Rates of nets."""
    rows = [
        [str(line["case"]["width"]), power(line["case"]["copies"]), million(line["value"]),
         f"{million(line['low'])} to {million(line['high'])}", duration(line["compile_s"])]
        for line in of_stage(lines, "neural")
    ]  # fmt: skip
    return markdown(["width", "copies", "M handoffs/s", "range", "compiling"], rows)


def worlds(lines: list[Line]) -> str:
    """Rates of environments, a column for each number of copies."""
    found = of_stage(lines, "environments")
    counts = sorted({line["case"]["copies"] for line in found})
    rate = {(line["case"]["environment"], line["case"]["copies"]): million(line["value"]) for line in found}
    names = dict.fromkeys(line["case"]["environment"] for line in found)
    rows = [[name, *(rate.get((name, count), "") for count in counts)] for name in names]
    return markdown(["", *(f"{power(count)} copies" for count in counts)], rows)


def recursions(lines: list[Line]) -> str:
    """Handoffs per second of the exact recursions, with their agreement."""
    rows = [
        [f"{line['variant']}, {line['extra']['states']} states, {line['extra']['parameters']} parameters",
         f"{line['value']:.0f}", f"{line.get('ratio', 1.0):.3g}",
         f"{line['extra']['difference']:.1e}" if "difference" in line["extra"] else "", duration(line["compile_s"])]
        for line in of_stage(lines, "moments")
    ]  # fmt: skip
    return markdown(["", "handoffs/s", "times the CPU", "largest relative difference", "compiling"], rows)


def presets(lines: list[Line]) -> str:
    """Wall time of the validation."""
    rows = [
        [line["case"]["programs"], duration(line["value"]), str(line["extra"]["checks"]),
         str(line["extra"]["violations"])]
        for line in of_stage(lines, "preset")
    ]  # fmt: skip
    return markdown(["programs", "time", "checks", "violated"], rows)


SECTIONS = (
    ("Agreement with the CPU", agreement, ("agreement",),
     "The same programs with the same keys on the CPU of the same machine. Integers count as different or not."),
    ("Learning from handoffs", learning, ("tabular", "on_chip", "linear"),
     "The model is planted: 160 states, 40 interfaces, 2 options; steps by visits, averages kept. `xla` is the program "
     "that `train` compiles; `on chip` is the Pallas kernel."),
    ("Nets", nets, ("neural",),
     "One hidden layer, a net for each of ten agents, Adam; acting, offers, gradients and all."),
    ("Exact moments in float64", recursions, ("moments",), "The recursions of theorem B."),
    ("Environments under random options", worlds, ("environments",), "Million handoffs per second."),
    ("Validation", presets, ("preset",), "Preset `testing`, in a new process."),
)  # fmt: skip


def figure(lines: list[Line], path: Path) -> None:
    """Rates over replicas, with the range of repetitions."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plots, axes = plt.subplots(1, 2, figsize=(7.2, 3.0), constrained_layout=True)
    styles = {"tabular": ("o", "-", "#0072B2"), "on_chip": ("s", "--", "#D55E00"), "linear": ("^", ":", "#009E73")}
    names = {"tabular": "tabular, XLA", "on_chip": "tabular, on chip", "linear": "linear, XLA"}
    for stage, (marker, dash, colour) in styles.items():
        found = of_stage(lines, stage)
        best = {line["case"]["replicas"]: line for line in sorted(found, key=lambda line: line["value"])}
        at = sorted(best)
        if at:
            values = [best[n]["value"] for n in at]
            spread = [[best[n]["value"] - best[n]["low"] for n in at], [best[n]["high"] - best[n]["value"] for n in at]]
            axes[0].errorbar(at, values, spread, marker=marker, ls=dash, color=colour, label=names[stage], capsize=2)
    axes[0].set(xscale="log", yscale="log", xlabel="replicas", ylabel="handoffs per second", title="IC-Q")
    if axes[0].has_data():
        axes[0].legend(frameon=False, fontsize=8)
    found = of_stage(lines, "environments")
    for index, name in enumerate(dict.fromkeys(line["case"]["environment"] for line in found)):
        mine = sorted((line["case"]["copies"], line["value"]) for line in found if line["case"]["environment"] == name)
        axes[1].plot(*zip(*mine, strict=True), marker="osv^Dp*hX<>d"[index % 12], ls=("-", "--", ":")[index % 3],
                     ms=4, lw=1, label=name)  # fmt: skip
    axes[1].set(xscale="log", yscale="log", xlabel="copies", title="environments")
    if axes[1].has_data():
        axes[1].legend(frameon=False, fontsize=6, ncols=2)
    for one in axes:
        one.grid(alpha=0.3)
    plots.savefig(path, dpi=200)
    plt.close(plots)


def page(lines: list[Line], name: str) -> str:
    """Markdown of all stages that have lines; ``name`` is that of the files."""
    machine = lines[0]["machine"]
    wrong = [line for line in lines if line["extra"].get("agrees") is False]
    verdict = "Everything agrees with the CPU." if not wrong else f"{len(wrong)} of the comparisons below fail."
    parts = [
        f"# {machine['device']}",
        f"Measured {machine['date']} by `make bench-device` on {machine['devices']} device and {machine['cores']} "
        f"cores of a processor that calls itself {machine['cpu']}; Python {machine['python']}, jax {machine['jax']}, "
        f"jaxlib {machine['jaxlib']}, numpy {machine['numpy']}. {verdict}",
        f"Made from [{name}.jsonl]({name}.jsonl) by `python -m benchmarks.device_page`, not by hand.",
    ]
    if of_stage(lines, "tabular", "environments"):
        parts.append(f"![Handoffs per second over replicas and copies]({name}.png)")
    for title, table, stages, text in SECTIONS:
        if of_stage(lines, *stages):
            parts += [f"## {title}", text, table(lines)]
    return "\n\n".join(parts) + "\n"


def write_page(path: Path) -> Path:
    """Writes page and figure next to a file of lines; where the page is."""
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    figure(lines, path.with_suffix(".png"))
    target = path.with_suffix(".md")
    target.write_text(page(lines, path.stem), encoding="utf-8")
    return target


if __name__ == "__main__":
    print(write_page(Path(sys.argv[1])))
