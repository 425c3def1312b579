"""What the report says about the agents axis."""

from bound_validation.words import T_MIX, Section

SECTION = Section(
    "Agents: longer pipelines",
    (
        "The same planted model with more and more agents. Each has its own interfaces and acts less often, so the "
        "number of handoffs grows with the number of agents. No term of the bound depends on that "
        "number directly: it enters through the norm of the solution, the mixing time and the smallest weight of a "
        "pair. The largest models are analysed but not simulated. Where a chain is too large for exact mixing times, "
        f"the note gives a range for {T_MIX}, and T3 uses its upper end. The residual is checked "
        "against the better of T3+ and T3.",
    ),
    {
        "agents": "(a) The exact gap against T1. (b) Spread of the tail average against P2 at the same number of "
        "handoffs for each agent. (c) RMSE of the average iterate with constant step, against the root of T3+, "
        "and of T3 for comparison."
    },
)
