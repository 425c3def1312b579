"""What the report says about the interface gap."""

from bound_validation.words import GAMMA_BAR, Q_PHI, Q_STAR, Section

SECTION = Section(
    "Interface gap: what is hidden",
    (
        f"&eta; scales what agents cannot see. {Q_PHI} stays the same for every &eta; (P3) while the "
        f"oracle&rsquo;s {Q_STAR} moves away from it, by at most T1. The value-aware form T1.1 is the sharpest of "
        "the three; T1.2 lies between it and T1. Acting greedily on the interface values costs at most twice the "
        "bound (T1.3). However long IC-Q runs, its error against the oracle cannot fall below the gap.",
        f"The sharp family (T1.4) hides one bit that flips with probability p: the gap is &epsilon; / (1&nbsp;"
        f"&minus;&nbsp;{GAMMA_BAR}(1&nbsp;&minus;&nbsp;2p)), which tends to the bound as p goes to 0. So T1 cannot "
        "be improved with these constants alone, and the models that nearly attain it mix slowly.",
    ),
    {
        "gap": "(a) The exact gap against T1, T1.2 and T1.1. (b) The exact policy loss against T1.3. (c) RMSE of "
        "IC-Q on a smaller model, constant step and average iterate, against the sum of T3+ and T1.1, with the error "
        "of a table of zeros. (d) The sharp family, with the mixing time along the upper edge. At &eta; = 0 nothing is "
        "hidden, and gap and bound are zero up to rounding."
    },
    {"gap": "interface gap against η (P3)"},
)
