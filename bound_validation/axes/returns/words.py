"""What the report says about returns."""

from bound_validation.words import Q_PHI, Section

SECTION = Section(
    "Returns: does one scalar suffice?",
    (
        "Every learner has the same budget, network and step size, or the best of the same few step sizes "
        "where a preset tries several; what differs is what the active agent sees and what crosses at a handoff. "
        "The return is that of the greedy policy, computed exactly from the model, on a scale from the random "
        "workflow (0) to the oracle (1). The random models hide nothing that matters, so only learning "
        "stands between IC-Q and the oracle; where an option leads matters more than what it pays. With tables, "
        "full information, shared and averaged parameters are the same as IC-Q and are not run again.",
        f"At growing gap the best that IC-Q can learn is {Q_PHI}, which depends on the behaviour policy; these runs "
        "behave uniformly at random, as the exact solution assumes. The loss of the policy that is greedy in it is "
        "known exactly and bounded by T1.3.",
    ),
    {
        "returns": "(a), (b) Normalised returns with 95&nbsp;% intervals over replicas, on an axis that is "
        "logarithmic in the distance from the oracle; dotted: 0.99. In grey, the numbers that cross between agents "
        "at each handoff, on the planted model. Random models are named by their seed. (c) What IC-Q&rsquo;s "
        f"greedy policy loses, with the exact loss of the policy that is greedy in {Q_PHI} and T1.3."
    },
)
