"""What the report says about the width axis."""

from bound_validation.words import Q_M, Q_PHI, ROOT_M, Section

SECTION = Section(
    "Width: how many features",
    (
        "Each agent describes its interface by m random ReLU features. The best they can do is the projection of "
        f"{Q_PHI}. The sampled approximant, an average of m of the planted atoms, has a root mean square error of "
        f"exactly {ROOT_M} with a known C, and the projection is guaranteed to be at least as good (T2.1).",
        f"IC-Q with these features converges to {Q_M}. Its error exceeds that of the projection by a factor of at "
        "most (1&nbsp;&minus;&nbsp;&kappa;<sup>2</sup>)<sup>&minus;1/2</sup> (T2), provided that A6 is certified "
        "(P1). A slope steeper than &minus;1/2 is not a contradiction: the theorem is an upper bound.",
        "Nets whose hidden layer is trained as well are measured, but no certificate is claimed for them. Their "
        "units adapt, so a net that can represent the planted solution needs fewer of them. Beyond that width the "
        "curve levels off: the error that remains comes from the limited number of handoffs and updates, and more "
        "units do not reduce it. Every initialization is trained twice on independent data; the spread between the "
        "two runs is the part of the error that is due to the data, and the claims give its share. The slope fitted "
        "over all widths therefore summarizes a bent curve and is not a rate. The slopes &minus;1/4 (Cai, Yang, Lee, "
        "Wang 2019) and &minus;1/6 (Xu, Gu 2020) are powers of m in analyses of nets that stay close to their "
        "initialization; they come without a constant, are drawn through the first measured point, and bound nothing.",
    ),
    {
        "width": f"(a) Errors of the projection and of the sampled approximant against {ROOT_M} (T2.1), a bound "
        f"for the first and exact for the second. (b) Error of the fixed point {Q_M} against T2, and against the "
        "guarantee that is known before any feature is drawn (dotted). (c) Error of two-layer nets trained by "
        "IC-Q, and the part of it that differs between two runs from one initialization; frozen features and their "
        "guarantee as in (b). The fit covers the widths at which that part makes up less than half of the squared "
        "error; thin long dashes are reference slopes through the first point, not bounds. A net has m units for each "
        "agent and option and trains all their weights; frozen features are shared by an agent&rsquo;s options."
    },
    {
        "width_approximant": "sampled approximant against m (T2.1)",
        "width_projection": "projection error against m (T2.1)",
        "width_fixed_point": "fixed-point error against m (T2)",
        "width_trained": "trained nets' error against m, all widths (no bound)",
        "width_trained_limited": "trained nets' error against m, where width limits them (no bound)",
    },
)
