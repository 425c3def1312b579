"""What the report says about messages."""

from bound_validation.words import GAMMA_BAR, Section

SECTION = Section(
    "Messages: scalars that fail",
    (
        "Tabular IC-Q on the planted model, through channels with one fault each, with and without clipping "
        "messages to the value range that is known before anything is learned. All channels see the same "
        "handoffs. The shift is the sup norm of the change that a fault makes to the values, averaged over replicas.",
        "A lost message costs one update and nothing else. A late message belongs to another segment. Errors with "
        "mean 0 leave the fixed point where it is, so rounding at random needs fewer bits than rounding to "
        f"the nearest level, which moves it by at most {GAMMA_BAR} e / (1&nbsp;&minus;&nbsp;{GAMMA_BAR}), where e is "
        "half a step (L1); because of the maximum, noise still shifts values while they are learned. "
        f"Clipping limits what liars can do to {GAMMA_BAR} times the width of the range, but that range "
        "is wide, and lies inside it cost return as well.",
    ),
    {
        "messages": "(a) to (g) Normalised return against the strength of the fault; filled: messages as they "
        "arrive, hollow: clipped; where a hollow marker surrounds a filled one, clipping changes nothing. (h) "
        "Shift by rounding, with the bound for rounding to the nearest level. (i) Shift by lies from outside the "
        "value range, with the bound for clipped messages."
    },
)
