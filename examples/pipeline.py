"""A planner, two solvers and a verifier on mathematics problems: twelve interfaces, one model file (D1).

A problem arrives at the planner, who hands it to one of two solvers; the solver hands a draft to the
verifier, who submits it, mends it or returns the problem to the planner. No agent sees whether the draft is
right: the verifier forms a noisy verdict. Durations are generated tokens, in blocks; rewards are US cents.

Accuracies, prices and costs come from the tables of LLMRouterBench (github.com/ynulihao/LLMRouterBench);
all under "Choices made here" is ours. ``docs/models.md`` lists both with their derivation.

Run ``python examples/pipeline.py --out examples/models`` to write ``pipeline.npz``.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from icsmdp_jax.models.files import save_model
from icsmdp_jax.models.tabular import TabularModel

# Published (LLMRouterBench): index 0 is AIME, index 1 LiveMathBench.
NUM_PROBLEMS = (60, 121)
ACCURACY = {"A": (0.7667, 0.7603), "B": (0.8667, 0.5289)}  # A = Qwen3-235b, B = Qwen3-235b-thinking
DOLLARS = {"A": (0.31, 0.23), "B": (1.13, 1.04)}  # for all problems of the set
PRICE = {"A": 0.60, "B": 2.90, "office": 1.00}  # $ per million output tokens; office = DeepSeek-v3.1

# Choices made here.
BLOCK_TOKENS = 512  # one primitive step
GAMMA = 0.93  # per block: chance that the answer is still wanted one block later
SPREAD = 2  # a job of about n blocks takes n-2, ..., n+2, equally likely
BRIEF_BLOCKS = 6  # the planner passing the problem on as it is
PLAN_BLOCKS = 7  # the planner writing a plan for solver A
CHECK_BLOCKS = (5, 2)  # a solver going over its own draft, by kind of problem
MEND_BLOCKS = (12, 6)  # the verifier mending the draft and judging it again, by kind
RETURN_BLOCKS = 4  # the verifier writing down its objections
RIGHT_CENTS, WRONG_CENTS = 50.0, -50.0  # for a submitted answer; submitting takes one block
PLAN_GAIN = 0.9  # share of solver A's errors that a plan prevents
SELF_REPAIR, SELF_HARM = 0.70, 0.05  # own check: wrong -> right, right -> wrong
REPAIR, HARM = (0.10, 0.20), (0.40, 0.10)  # mending: wrong -> right, right -> wrong, by kind
PASS_IF_RIGHT, PASS_IF_WRONG = 0.95, 0.05  # the verifier's verdict

PLANNER, SOLVER_A, SOLVER_B, VERIFIER = range(4)  # agents
AIME, LIVE = range(2)  # field `kind` of the artifact
BARE, PLANNED = range(2)  # field `plan`
WRONG, RIGHT = range(2)  # field `draft`, which no agent sees
DOUBT, PASS = range(2)  # the verifier's private state
BARE_TO_A, PLAN_TO_A, BARE_TO_B = range(3)  # the planner's options
ANSWER, ANSWER_AND_CHECK = range(2)  # a solver's options
SUBMIT, MEND, RETURN = range(3)  # the verifier's options
NUM_OPTIONS = 3

DONE = 16  # the terminal state: submitted
NUM_STATES = 17
NUM_INTERFACES = 13  # twelve that decide and the finished artifact

Arrays = dict[str, np.ndarray]


def planner_state(kind: int) -> int:
    """States 0 and 1, interfaces 0 and 1."""
    return kind


def solver_a_state(kind: int, plan: int) -> int:
    """States 2 to 5, interfaces 2 to 5."""
    return 2 + 2 * kind + plan


def solver_b_state(kind: int) -> int:
    """States 6 and 7, interfaces 6 and 7."""
    return 6 + kind


def verifier_interface(kind: int, verdict: int) -> int:
    """Interfaces 8 to 11: the correctness of the draft is no part of them."""
    return 8 + 2 * kind + verdict


def verifier_state(kind: int, verdict: int, draft: int) -> int:
    """States 8 to 15."""
    return 8 + 4 * kind + 2 * verdict + draft


def solver_blocks(solver: str, kind: int) -> int:
    """Blocks of one answer: published cost of one problem over the output price.

    Input tokens are part of the cost, so this is an upper estimate.
    """
    tokens = DOLLARS[solver][kind] / NUM_PROBLEMS[kind] / (PRICE[solver] * 1e-6)
    return round(tokens / BLOCK_TOKENS)


def cents_per_block(model: str) -> float:
    """Cost of one block of output tokens."""
    return 100 * PRICE[model] * 1e-6 * BLOCK_TOKENS


def chance_right(solver: str, kind: int, plan: int = BARE, checked: bool = False) -> float:
    """Probability that a solver's draft is right."""
    right = ACCURACY[solver][kind]
    if plan == PLANNED:
        right += PLAN_GAIN * (1 - right)
    return right * (1 - SELF_HARM) + (1 - right) * SELF_REPAIR if checked else right


def _about(blocks: int, longest: int) -> np.ndarray:
    """``[T]`` pmf of a job of about this many blocks."""
    law = np.zeros(longest)
    law[blocks - SPREAD - 1 : blocks + SPREAD] = 1 / (2 * SPREAD + 1)
    return law


def _judged(kind: int, right: float) -> np.ndarray:
    """``[S]`` law of the verifier's next state when the draft is right with probability ``right``."""
    law = np.zeros(NUM_STATES)
    for draft, chance, passes in ((RIGHT, right, PASS_IF_RIGHT), (WRONG, 1 - right, PASS_IF_WRONG)):
        law[verifier_state(kind, PASS, draft)] = chance * passes
        law[verifier_state(kind, DOUBT, draft)] = chance * (1 - passes)
    return law


def build_features() -> np.ndarray:
    """``[Z, 4]`` unit vectors along (1, kind, plan, verdict), each field -1 or +1, 0 where it is not seen."""
    sign = (-1, 1)
    rows = np.zeros((NUM_INTERFACES, 4))
    rows[:, 0] = 1
    for kind in (AIME, LIVE):
        seen = [planner_state(kind), solver_b_state(kind)]
        for value in range(2):
            a, v = solver_a_state(kind, value), verifier_interface(kind, value)
            rows[a, 2], rows[v, 3] = sign[value], sign[value]
            seen += [a, v]
        rows[seen, 1] = sign[kind]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def build_pipeline() -> Arrays:
    """The arrays of the model file, with ``transition`` and ``duration``: ``S = 17, Z = 13, O = 3``."""
    longest = max(solver_blocks(solver, kind) + CHECK_BLOCKS[kind] for solver in "AB" for kind in (AIME, LIVE)) + SPREAD
    transition = np.zeros((NUM_STATES, NUM_OPTIONS, NUM_STATES))
    duration = np.zeros((NUM_STATES, NUM_OPTIONS, longest))
    rate = np.zeros((NUM_STATES, NUM_OPTIONS))
    agent = np.full(NUM_STATES, VERIFIER, np.int32)
    interface = np.arange(NUM_STATES, dtype=np.int32)
    available = np.zeros((NUM_INTERFACES, NUM_OPTIONS), bool)
    office = -cents_per_block("office")

    def job(state: int, option: int, law: np.ndarray, blocks: int, cents: float) -> None:
        transition[state, option], duration[state, option], rate[state, option] = (
            law,
            _about(blocks, longest),
            cents,
        )
        available[interface[state], option] = True

    going_to = np.eye(NUM_STATES)
    for kind in (AIME, LIVE):
        s = planner_state(kind)
        agent[s] = PLANNER
        job(s, BARE_TO_A, going_to[solver_a_state(kind, BARE)], BRIEF_BLOCKS, office)
        job(s, PLAN_TO_A, going_to[solver_a_state(kind, PLANNED)], PLAN_BLOCKS, office)
        job(s, BARE_TO_B, going_to[solver_b_state(kind)], BRIEF_BLOCKS, office)
        for solver, plan in (("A", BARE), ("A", PLANNED), ("B", BARE)):
            s = solver_a_state(kind, plan) if solver == "A" else solver_b_state(kind)
            agent[s] = SOLVER_A if solver == "A" else SOLVER_B
            blocks, cents = solver_blocks(solver, kind), -cents_per_block(solver)
            job(s, ANSWER, _judged(kind, chance_right(solver, kind, plan)), blocks, cents)
            law = _judged(kind, chance_right(solver, kind, plan, checked=True))
            job(s, ANSWER_AND_CHECK, law, blocks + CHECK_BLOCKS[kind], cents)
        for verdict, draft in product((DOUBT, PASS), (WRONG, RIGHT)):
            s = verifier_state(kind, verdict, draft)
            interface[s] = verifier_interface(kind, verdict)
            job(
                s,
                MEND,
                _judged(kind, 1 - HARM[kind] if draft == RIGHT else REPAIR[kind]),
                MEND_BLOCKS[kind],
                office,
            )
            if verdict == DOUBT:
                job(s, RETURN, going_to[planner_state(kind)], RETURN_BLOCKS, office)
            else:
                job(s, SUBMIT, going_to[DONE], SPREAD + 1, RIGHT_CENTS if draft == RIGHT else WRONG_CENTS)
                duration[s, SUBMIT] = np.arange(longest) == 0
    interface[DONE] = NUM_INTERFACES - 1
    start = np.zeros(NUM_STATES)
    start[:2] = np.array(NUM_PROBLEMS) / sum(NUM_PROBLEMS)
    return {
        "transition": transition,
        "duration": duration,
        "reward_rate": rate,
        "reward_noise": np.array(0.0),
        "agent": agent,
        "interface": interface,
        "gamma": np.array(GAMMA),
        "available": available,
        "start": start,
        "terminal": np.arange(NUM_STATES) == DONE,
        "features": build_features(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models", help="folder of the model file")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    save_model(out / "pipeline.npz", TabularModel(**build_pipeline()))  # type: ignore[arg-type]
    print(f"wrote {out / 'pipeline.npz'}")


if __name__ == "__main__":
    main()
