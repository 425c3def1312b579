"""What the report says about the neural axis."""

from bound_validation.words import NORM, Q_PHI, Section

Q_C = "Q<sub>C</sub>"
ROOT = "m<sup>&minus;1/2</sup>"

SECTION = Section(
    "Neural: nets whose hidden layer is trained",
    (
        "Every agent has a two-layer ReLU net for each of its options and trains the hidden layer. The nets start at "
        "zero (each unit has a twin of opposite sign), and every agent keeps each of its units in a ball of "
        f"radius &rho; around its start; &rho; is the same multiple of {ROOT} at all widths. Theorem N bounds the "
        f"error of the average iterate in {NORM} by a sum. <i>Approximation</i>: how far the fixed point {Q_C} of "
        f"the linearised nets in these balls is from {Q_PHI} (N3). <i>Linearisation</i>: what the nets can differ "
        f"from their linearisation, at worst anywhere in the balls; it falls like {ROOT} and no number of handoffs "
        "removes it. <i>Hidden part</i>: c<sub>C</sub>, what is added where the states behind an interface differ "
        "from their mean. <i>Handoffs</i>: the statistical term (N+). All constants come from the model and the "
        "drawn start; nothing is assumed about the law of the start.",
        "The bound is informative where its sum is below the error of the start, the dashed line. The nets stay "
        "far closer to their linearisation than the certificate allows: it holds for every net in the balls, and "
        "training explores only a small part of them. A ball around each whole net (Xu and Gu 2020) that holds the "
        "balls around the units gives a floor that falls with about m<sup>&minus;1/6</sup> only, because there a few "
        "units may take all of the movement.",
    ),
    {
        "neural": "(a) The bound taken apart against width, gap closed, and the measured error (circles). (b) The same "
        "with the gap open. (c) The widest nets against the number of handoffs. Dashed: the error of a table of zeros, "
        "below which a bound rules out that nothing was learned. (d) Largest difference between nets and their "
        "linearisation seen during the runs, against its certificate. (e) What is left of the bound after infinitely "
        "many handoffs, for balls around units and around whole nets, mean over drawn starts."
    },
    {
        "neural_floor": "floor of theorem N against m, balls around units",
        "neural_frobenius_floor": "floor against m, balls around whole nets",
    },
)
