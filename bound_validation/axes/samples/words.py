"""What the report says about the samples axis."""

from bound_validation.words import Section

SECTION = Section(
    "Samples: how many handoffs",
    (
        "Over independent runs the error of a tail average splits into spread and bias (D10). The central "
        "limit (P2) predicts the spread, including its constant, from the model alone; leaving out its Poisson terms, "
        "which account for the memory of the chain, gives the dotted line. The bias is of higher order and should fall "
        "faster than the spread.",
        "Two more statements hold in finite time, transients included, for two kinds of runs. Plain"
        " runs (no projection, steps known in advance and at most 1) are compared with a linear process, IC-Q with "
        "the greedy options of its limit held fixed, whose moments are known exactly at every K: dashed, a prediction"
        " that needs no limit. For tables, theorem B adds what the maximum can contribute and gives a bound (solid). "
        "With the constant step, points and prediction agree. With decreasing steps, the first of which are near 1, "
        "the runs are a few percent better than the prediction: while values are noisy, the maximum lifts them above "
        "the linear process, towards the limit. The difference vanishes as K grows.",
        "Projected runs are covered by T3+, the bound of T3 with constants of the Poisson equation instead of"
        " the mixing time. T3 and T3.1 themselves are drawn for comparison and are not checked. A bound above the "
        "error of a table of zeros says nothing: the dotted black line marks that error.",
    ),
    {
        "samples": "Top: spread, bias and RMSE of the tail average against K, with the central-limit line for "
        "the spread. Where the estimate of the bias is zero, an arrow marks the upper end of its interval. "
        "Middle: RMSE of the average iterate of plain runs under three schedules, with the prediction of the linear "
        "process and, for tables, theorem B. Bottom: RMSE of the average iterate of projected runs with constant and "
        "decaying step, against the roots of T3+, and of T3 and T3.1 for comparison."
    },
    {
        "samples_spread_tabular": "spread against K, tabular (P2)",
        "samples_spread_linear": "spread against K, linear (P2)",
    },
)
