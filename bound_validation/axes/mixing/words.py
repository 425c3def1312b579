"""What the report says about the mixing axis."""

from bound_validation.words import T_MIX, Section

SECTION = Section(
    "Mixing: how long the chain remembers",
    (
        f"The same K at growing mixing time. T3 grows with {T_MIX} in every model; T3+ replaces it by the entries of "
        "the fundamental matrix, block by block, and grows much more slowly. The central limit feels the "
        "mixing time only if the interface leaves something unexplained: with a closed gap the Poisson terms vanish "
        "and mixing drops out of the leading order (P2.1), with an open one they grow with the mixing time.",
    ),
    {
        "mixing": "(a) Spread of the tail average with the gap open and closed, against P2. (b) RMSE of the "
        "average iterate of projected runs with constant step, on a smaller model, against the root of T3+ and, for "
        "comparison, of T3."
    },
)
