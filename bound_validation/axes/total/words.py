"""What the report says about the whole bound."""

from bound_validation.words import Q_STAR, Section

SECTION = Section(
    "All three: the whole bound",
    (
        "Every combination of width, gap and samples, each cell with its own certificate (T4). More samples help "
        "until approximation or interface dominates; which of the two it is tells what to improve next. In the "
        "bound the residual usually has a larger share than in the measured error, because T3 is the loosest of the "
        "three.",
    ),
    {
        "total": "(a) Shares of the measured errors; the letter marks the largest. (b) Shares of the three terms of "
        f"the bound. (c) Measured RMSE to {Q_STAR} against the bound of the same cell; on the line they would be "
        "equal. (d) The same against K at the corners of the grid."
    },
)
