"""What the report says in words besides what the axes say: provenance, notation, readable names of constants."""

from __future__ import annotations

from bound_validation.words import GAMMA_BAR, NORM, Q_M, Q_PHI, Q_STAR, READING, T_MIX

PROVENANCE = (
    "The algorithm, the model class and the three sources of error come from the abstract of arXiv 2605.19140, "
    "<cite>Learning to Hand Off</cite>; only that abstract is claimed as the paper&rsquo;s. The theorems as stated "
    "here (T1 to T4, P1, P2) are this project&rsquo;s own statements, with proofs in <code>docs/theory.md</code>, "
    "whose labels are used throughout. A bound that holds here says nothing about the constants in the paper&rsquo;s "
    "own theorem."
)

OVERVIEW = (
    "The sources of error one at a time: too few features, an interface that hides part of the state, too few "
    "samples; nets whose hidden layer is trained; and all sources together. " + READING
)

INFORMATIVE = (
    "The trivial value of a row is what is known without any theory: the error of a table of zeros, where every run "
    "starts, in the same norm against the same reference, or, for the interface, the width of the range in which all "
    "values lie (D12). A bound is informative if it is below the trivial value. A check whose bound is not is called "
    "vacuous: it would hold for a learner that never learned, and is not counted as evidence."
)

SHARES = (
    "The total error is at most residual + approximation + interface (T4). Each share below is one of the three "
    f"divided by their sum, once as measured and once in the bound. All are measured in {NORM}, and add up to at least "
    "the measured total; the bound of the interface is that on the sup norm, which dominates."
)

UNCERTIFIED = (
    "P1 gives &kappa; &ge; 1 in these cells, so A6, contraction in the norm of the data, is not certified: "
    "<strong>no Theorem 2 or 3 claimed there</strong>, and hence no T4. Measurements are shown without those bounds. "
    "T1 and its refinements do not need A6."
)

NOTATION = (
    ("K, m, &eta;", "handoffs in a run; features per agent; size of what the interface hides (D11)"),
    (NORM, "root mean square over the stationary law of states and options under the behaviour policy (D4)"),
    (f"{Q_STAR}, {Q_PHI}, {Q_M}", "values of the oracle that sees the whole state (D3), of the interface model (D5), "
     "and where IC-Q with m features converges (D7)"),
    (GAMMA_BAR, "largest expected discount that one option leaves, E[&gamma;<sup>&tau;</sup>], a terminal handoff "
     "counting 0 (D2)"),
    ("&epsilon;, &delta;", "how far reward and kernel depend on what the interface hides (D6)"),
    ("&kappa;", "certificate of A6 (P1); below 1, Theorems 2 and 3 are claimed"),
    (T_MIX, "handoffs until the chain is within 1/4 of its stationary law in total variation (D8)"),
)  # fmt: skip

CONSTANTS = {
    "gamma": "&gamma;",
    "gamma_bar": f"{GAMMA_BAR} (D2)",
    "kappa": "&kappa; (P1)",
    "certified": "A6",
    "epsilon": "&epsilon; (D6)",
    "delta": "&delta; (D6)",
    "value_norm": "&Vert;V<sub>&phi;</sub>&Vert;<sub>&infin;</sub>",
    "omega": "&omega;",
    "mixing_time": f"{T_MIX} (D8)",
    "width_constant": "C (T2.1)",
    "clt_coefficient": "c<sub>clt</sub> (P2)",
    "clt_coefficient_iid": "c<sub>clt</sub> without Poisson",
    "reward_max": "R<sub>max</sub>",
    "radius": "radius B",
    "action_gap": "action gap",
    "q_norm": f"&Vert;{Q_PHI}&Vert;<sub>d</sub>",
}
