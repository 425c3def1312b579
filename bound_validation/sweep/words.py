"""What the report says about a sweep."""

from bound_validation.words import Q_M, Q_PHI, Q_STAR, READING, Section

SECTION = Section(
    "The sweep",
    (
        "Every cell is a model of the family with its own constants, and every bound is that of its cell. The "
        f"interface gap and the policy loss are exact. {Q_M} is where IC-Q with the cell&rsquo;s function class "
        f"converges: {Q_PHI} itself for tables. Curves show the cells that the figure settings select; the figure "
        "of all checks shows every cell.",
        READING,
    ),
    {
        "interface": "(a) The exact gap against T1 and, with a single group, its sharper forms T1.1 and T1.2. (b) "
        "The exact policy loss against T1.3.",
        "spread": "(a) Spread of the tail average over replicas against the central limit P2, and without its "
        "Poisson terms where that makes a difference. (b) Its bias, for which no line is claimed.",
        "approximation": f"Distance of {Q_M} from {Q_PHI}, exact, against T2 with the exact projection error.",
        "residual": f"RMSE of the average iterate to {Q_M}, constant step, against the root of T3+ or of T3, "
        "whichever is smaller.",
        "total": f"RMSE of the average iterate to {Q_STAR} against T4, the sum of the three terms.",
        "checks": "Every row with a bound, in every cell: the measured value against its own bound. On the line they "
        "would be equal; nothing may lie above it.",
    },
)
