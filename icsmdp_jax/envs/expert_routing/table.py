"""Published prices, accuracies and bills of language models; no model is run here, they stand in for real answers.

All numbers are those of the tables of LLMRouterBench (https://github.com/ynulihao/LLMRouterBench): prices of input and
output tokens, accuracy on the 60 problems of AIME and the 121 of LiveMathBench, and the dollars that answering all of
them cost. What is derived from them is ours: tokens per answer are taken from the bill as if it paid for output only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from icsmdp_jax.core.arguments import expect

KINDS = ("AIME", "LiveMathBench")
ITEMS = (60, 121)  # problems of each kind


class Published(NamedTuple):
    """One row of the tables; tuples follow ``KINDS``.

    Attributes:
      price_in: dollars per million input tokens.
      price_out: dollars per million output tokens.
      accuracy: percent of the problems that the model answers right.
      bill: dollars for all problems.
    """

    price_in: float
    price_out: float
    accuracy: tuple[float, float]
    bill: tuple[float, float]


MODELS: dict[str, Published] = {
    "Claude-sonnet-4": Published(3.00, 15.00, (36.67, 61.16), (1.26, 1.91)),
    "Gemini-2.5-flash": Published(0.30, 2.50, (63.33, 73.55), (2.25, 1.90)),
    "Gemini-2.5-pro": Published(1.25, 10.00, (85.00, 50.41), (9.18, 10.96)),
    "GPT-5-chat": Published(1.25, 10.00, (71.67, 57.85), (0.08, 1.57)),
    "GPT-5-medium": Published(1.25, 10.00, (88.33, 79.34), (4.57, 4.09)),
    "Qwen3-235b": Published(0.09, 0.60, (76.67, 76.03), (0.31, 0.23)),
    "Qwen3-235b-thinking": Published(0.30, 2.90, (86.67, 52.89), (1.13, 1.04)),
    "DeepSeek-v3": Published(0.25, 0.88, (43.33, 61.98), (0.15, 0.17)),
    "DeepSeek-v3.1": Published(0.27, 1.00, (55.00, 73.55), (0.17, 0.19)),
    "DeepSeek-R1": Published(0.50, 2.15, (85.00, 77.69), (2.09, 2.70)),
    "GLM-4.6": Published(0.60, 2.20, (81.67, 63.64), (2.79, 4.02)),
    "Kimi-K2": Published(0.50, 2.00, (65.00, 71.90), (0.57, 0.60)),
    "Intern-S1": Published(0.18, 0.54, (48.33, 68.60), (0.46, 0.50)),
}

# Average accuracy in percent over all data sets of that benchmark, not over our two kinds.
PUBLISHED_ROUTERS: dict[str, float] = {"random": 48.8, "best routers": 71.9, "best single model": 73.1, "oracle": 91.6}


def published(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accuracy, dollars and tokens of one answer.

    Args:
      names: ``N`` keys of ``MODELS``.

    Returns:
      ``(accuracy, dollars, tokens)``, each ``[kinds, N]`` float64: probability of a right answer, dollars per answer,
      and the output tokens that these dollars buy.

    Raises:
      ValueError: for a model that the tables lack.
    """
    for index, name in enumerate(names):
        if name not in MODELS:
            raise ValueError(f"models[{index}] = {name!r}: expected one of {', '.join(MODELS)}")
    rows = [MODELS[name] for name in names]
    accuracy = np.array([row.accuracy for row in rows]).T / 100
    dollars = np.array([row.bill for row in rows]).T / np.array(ITEMS)[:, None]
    return accuracy, dollars, dollars / np.array([row.price_out for row in rows]) * 1e6


def shares(mix: float | None) -> np.ndarray:
    """``[kinds]`` law of the kind of a problem: as the tables have them, or ``mix`` of the first kind."""
    first = ITEMS[0] / sum(ITEMS) if mix is None else mix
    expect("a number from 0 to 1", mix=first)
    return np.array([first, 1 - first])
