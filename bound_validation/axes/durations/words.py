"""What the report says about the durations axis."""

from bound_validation.words import GAMMA_BAR, Section

SECTION = Section(
    "Durations: the right horizon",
    (
        f"One Bellman backup at the option scale contracts with the modulus {GAMMA_BAR} of the durations (L1), not "
        f"with &gamma;. So errors are amplified by 1/(1&nbsp;&minus;&nbsp;{GAMMA_BAR}); 1/(1&nbsp;&minus;&nbsp;"
        "&gamma;), drawn for comparison, is right only for options of one step, and far too large for long ones. "
        "Laws with the same mean differ: variable durations leave a larger E[&gamma;<sup>&tau;</sup>].",
    ),
    {
        "durations": f"(a) Gap over &epsilon; in the sharp family, which nearly attains 1/(1&nbsp;&minus;&nbsp;"
        f"{GAMMA_BAR}) (T1.4). (b) Largest ratio by which a Bellman backup shrinks a perturbation. (c) Gap over "
        "the value-aware constant &beta; (T1.1) in the planted model. One marker for each law of the duration; its "
        "line has the same colour."
    },
)
