"""What the report says about the whole bound."""

from bound_validation.words import Q_M, Q_PHI, Q_STAR, Section

SECTION = Section(
    "All three: the whole bound",
    (
        "Every combination of function class, gap and samples (T4). The classes are tables in which each agent "
        "distinguishes one, two or four groups of its interfaces, grouped by value; with four it distinguishes all of "
        "them. The runs are plain, with polynomial steps. The residual is certified by theorem B on the coarser model, "
        f"the distance of {Q_M} from {Q_PHI} by T2, and what the interface hides by T1.1. All measured errors are in "
        "the norm of the data. More samples help until approximation or interface dominates; which of the two does "
        "tells what to improve next. In the bound the residual remains the largest term for longer, because B exceeds "
        "it severalfold for decreasing steps. Once it is small, both maps name the same term.",
    ),
    {
        "total": "(a) Shares of the measured errors; the letter marks the largest. (b) Shares of the three terms of "
        f"the bound. (c) Measured RMSE to {Q_STAR} against the bound of the same cell; on the line they would be "
        "equal. (d) The same against K at the corners of the grid, with the error of a table of zeros."
    },
)
