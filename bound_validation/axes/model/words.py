"""What the report says about a given model."""

from bound_validation.words import Section

SECTION = Section(
    "The given model",
    (
        "What hiding the state costs in this model (T1, T1.1, T1.2), what acting on the interface values costs "
        "(T1.3), and how IC-Q&rsquo;s error falls with the number of handoffs, against the central limit (P2) and, "
        "where A6 is certified, against T3+.",
    ),
    {
        "samples": "Spread, bias and RMSE of the tail average with the central-limit line, and the average iterate "
        "of projected runs against the roots of T3+, with T3 and T3.1 for comparison.",
        "handoffs": "Who hands to whom under the behaviour policy, exact: agents are as large as their share of the "
        "decisions, arrows as wide as their share of the handoffs, numbers are mean durations of the segments before.",
        "width": "Errors of m features per agent against T2.1 and T2, with C where it is known.",
    },
    {
        "model_spread_tabular": "spread against K, tabular (P2)",
        "model_width_projection": "projection error against m (T2.1)",
    },
)
