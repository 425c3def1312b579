"""What the report says about the samples axis."""

from bound_validation.words import Section

SECTION = Section(
    "Samples: how many handoffs",
    (
        "Over independent runs the error of a tail average splits into spread and bias (D10). The central "
        "limit (P2) predicts the spread, including its constant, from the model alone; leaving out its Poisson terms, "
        "which account for the memory of the chain, gives the dotted line. The bias is of higher order and should fall "
        "faster than the spread.",
        "T3 (constant step K<sup>&minus;1/2</sup>) and T3.1 (decaying step) bound the error of the average iterate in "
        "finite time with explicit constants. They are loose by orders of magnitude; the central limit is not.",
    ),
    {
        "samples": "Above: spread, bias and RMSE of the tail average against K, with the central-limit line for "
        "the spread. Where the estimate of the bias is zero, an arrow marks the upper end of its interval. "
        "Below: RMSE of the average iterate under both step rules against the roots of T3 and T3.1."
    },
    {
        "samples_spread_tabular": "spread against K, tabular (P2)",
        "samples_spread_linear": "spread against K, linear (P2)",
    },
)
