"""What the report says in words: one section for each axis, captions, and readable names of constants and slopes.

The strings are HTML fragments of this project's own; nothing measured or user-given is pasted into them.
"""

from __future__ import annotations

from typing import NamedTuple


class Section(NamedTuple):
    """Words that go with an axis.

    Attributes:
      title: heading.
      paragraphs: explanation, HTML.
      captions: by name of the figure, HTML.
    """

    title: str
    paragraphs: tuple[str, ...]
    captions: dict[str, str]


NORM = "&Vert;&middot;&Vert;<sub>d</sub>"
Q_PHI, Q_M, Q_STAR = "Q<sub>&phi;</sub>", "Q<sub>m</sub>", "Q<sup>&#8902;</sup>"
GAMMA_BAR = '<span class="bar">&gamma;</span>'
ROOT_M = "C&#8239;m<sup>&minus;1/2</sup>"
T_MIX = "t<sub>mix</sub>"

PROVENANCE = (
    "The algorithm, the model class and the three sources of error come from the abstract of arXiv 2605.19140, "
    "<cite>Learning to Hand Off</cite>; only that abstract is claimed as the paper&rsquo;s. The theorems as stated "
    "here (T1 to T4, P1, P2) are this project&rsquo;s own statements, with proofs in <code>docs/theory.md</code>, "
    "whose labels are used throughout. A bound that holds here says nothing about the constants in the paper&rsquo;s "
    "own theorem."
)

READING = (
    "Markers are measurements, with 95&nbsp;% intervals that are often smaller than the marker. Solid lines are "
    "guaranteed by a theorem, dashed lines are sharp predictions, dotted lines are drawn for comparison, thin "
    "dash-dotted lines are fitted power laws with the slope and its interval. Hollow markers: A6 is not certified "
    "there, so the bound is not claimed. A red cross: the bound is violated. Values are in units of reward."
)

OVERVIEW = (
    "The sources of error one at a time: too few features, an interface that hides part of the state, too few "
    "samples. " + READING
)

SHARES = (
    "The total error is at most residual + approximation + interface (T4). Each share below is one of the three "
    f"divided by their sum, once as measured and once in the bound. Residual and approximation are in {NORM}, the "
    "interface gap is in the sup norm, as in the theorem; so the measured parts add up to at least the measured total."
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

SECTIONS = {
    "width": Section(
        "Width: how many features",
        (
            "Each agent describes its interface by m random ReLU features. The best they can do is the projection of "
            f"{Q_PHI}. The sampled approximant, an average of m of the planted atoms, has a root mean square error of "
            f"exactly {ROOT_M} with a known C, and that guarantees the projection at least as much (T2.1).",
            f"IC-Q with these features converges to {Q_M}. Its error exceeds that of the projection by a factor of at "
            "most (1&nbsp;&minus;&nbsp;&kappa;<sup>2</sup>)<sup>&minus;1/2</sup> (T2), provided that A6 is certified "
            "(P1). A slope steeper than &minus;1/2 is no contradiction: the theorem bounds from above.",
            "Nets whose hidden layer is trained as well are measured, and no certificate is claimed for them. Their "
            "units adapt, so that a net which can represent the planted solution needs fewer of them; from there on "
            "the curve levels off at what the run&rsquo;s handoffs and updates leave undecided, which more units do "
            "not reduce. Every start is trained twice on independent data: the spread between the two is what the "
            "data left undecided, and the claims give its share. So the slope fitted over all widths sums up a bent "
            "curve and is no rate. The slopes &minus;1/4 (Cai, Yang, Lee, Wang 2019) and &minus;1/6 "
            "(Xu, Gu 2020) are powers of m in analyses of nets that stay near their start; they come without a "
            "constant here, are drawn through the first measured point, and bound nothing.",
        ),
        {
            "width": f"(a) Errors of the projection and of the sampled approximant against {ROOT_M} (T2.1), a bound "
            f"for the first and exact for the second. (b) Error of the fixed point {Q_M} against T2, and against the "
            "guarantee that is known before any feature is drawn (dotted). (c) Error of two-layer nets trained by "
            "IC-Q, and the part of it that differs between runs from one start; frozen features and their guarantee "
            "as in (b); the fit is over the widths at which most of the squared error is not that part; thin long "
            "dashes are reference slopes through the first point, not bounds. A net has m units for each agent and "
            "option, and trains all their weights; frozen features are shared by an agent&rsquo;s options."
        },
    ),
    "gap": Section(
        "Interface gap: what is hidden",
        (
            f"The knob &eta; scales what agents cannot see. {Q_PHI} stays the same for every &eta; (P3) while the "
            f"oracle&rsquo;s {Q_STAR} moves away from it, by at most T1. The value-aware form T1.1 is the sharpest of "
            "the three, T1.2 lies between it and T1. Acting greedily on the interface values costs at most twice the "
            "bound (T1.3). However long IC-Q runs, its error against the oracle keeps the gap as its floor.",
            f"The sharp family (T1.4) hides one bit that flips with probability p: the gap is &epsilon; / (1&nbsp;"
            f"&minus;&nbsp;{GAMMA_BAR}(1&nbsp;&minus;&nbsp;2p)), which tends to the bound as p goes to 0. So T1 cannot "
            "be improved with these constants alone, and the models that nearly attain it mix slowly.",
        ),
        {
            "gap": "(a) The exact gap against T1, T1.2 and T1.1. (b) The exact policy loss against T1.3. (c) RMSE of "
            "IC-Q, constant step and average iterate, against the sum of T3 and T1. (d) The sharp family. Left of the "
            "break mark, &eta; = 0: nothing is hidden, gap and bound are zero up to rounding."
        },
    ),
    "samples": Section(
        "Samples: how many handoffs",
        (
            "Over independent runs the error of a tail average is taken apart into spread and bias (D10). The central "
            "limit (P2) predicts the spread with its constant, from the model alone; leaving out its Poisson terms, "
            "which count the memory of the chain, gives the dotted line. The bias is of higher order and should fall "
            "faster than the spread.",
            "T3 (constant step K<sup>&minus;1/2</sup>) and T3.1 (decaying step) guarantee the average iterate in "
            "finite time with explicit constants. They are loose by orders of magnitude; the central limit is not.",
        ),
        {
            "samples": "Above: spread, bias and RMSE of the tail average against K, with the central-limit line for "
            "the spread. An arrow stands where the estimate of the bias is zero, at the upper end of its interval. "
            "Below: RMSE of the average iterate under both step rules against the roots of T3 and T3.1."
        },
    ),
    "mixing": Section(
        "Mixing: how long the chain remembers",
        (
            f"The same K at growing mixing time. T3 charges for {T_MIX} in every model. The central limit does so only "
            "if something is left unexplained by the interface: with a closed gap the Poisson terms vanish and mixing "
            "drops out of the leading order (P2.1), with an open one they grow with the mixing time.",
        ),
        {
            "mixing": "(a) Spread of the tail average with the gap open and closed, against P2. (b) RMSE of the "
            "average iterate with constant step, against the root of T3."
        },
    ),
    "durations": Section(
        "Durations: the right horizon",
        (
            f"One Bellman backup at the option scale contracts with the modulus {GAMMA_BAR} of the durations (L1), not "
            f"with &gamma;. So errors are amplified by 1/(1&nbsp;&minus;&nbsp;{GAMMA_BAR}); 1/(1&nbsp;&minus;&nbsp;"
            "&gamma;), drawn beside it, is right for options of one step only and too large by far for long ones. Laws "
            "with the same mean differ: variable durations leave a larger E[&gamma;<sup>&tau;</sup>].",
        ),
        {
            "durations": f"(a) Gap over &epsilon; in the sharp family, which nearly attains 1/(1&nbsp;&minus;&nbsp;"
            f"{GAMMA_BAR}) (T1.4). (b) Largest ratio by which a Bellman backup shrinks a perturbation. (c) Gap over "
            "the value-aware constant &beta; (T1.1) in the planted model. One marker for each law of the duration."
        },
    ),
    "total": Section(
        "All three: the whole bound",
        (
            "Every combination of width, gap and samples, each cell with its own certificate (T4). More samples help "
            "until approximation or interface dominates; which of them it is decides what to improve next. In the "
            "bound the residual usually has a larger share than in truth, because T3 is the loosest of the three.",
        ),
        {
            "total": "(a) Shares of the measured errors, a letter in the largest. (b) Shares of the three terms of the "
            f"bound. (c) Measured RMSE to {Q_STAR} against the bound of the same cell; the line is where they would be "
            "equal. (d) The same against K at the corners of the grid."
        },
    ),
    "agents": Section(
        "Agents: longer pipelines",
        (
            "The same planted model with ever more agents, each of which brings interfaces of its own and is activated "
            "more rarely; so the handoffs grow with the number of agents. No term of the bound knows that number by "
            "itself: it enters through the norm of the solution, the mixing time and the smallest weight of a pair. "
            "The largest models are only analysed, not simulated; where a chain is too large for exact mixing times "
            f"the note says between which ends {T_MIX} lies, and T3 is stated with the upper one.",
        ),
        {
            "agents": "(a) The exact gap against T1. (b) Spread of the tail average against P2 at the same number of "
            "handoffs for each agent. (c) RMSE of the average iterate with constant step, against the root of T3."
        },
    ),
    "returns": Section(
        "Returns: does one scalar suffice",
        (
            "Every learner with the same budget, network and step size, or with the best of the same few step sizes "
            "where a preset tries several; what differs is what the active agent sees and what crosses at a handoff. "
            "Its return is that of the greedy policy, computed exactly from the model, on the scale from the random "
            "workflow (0) to the oracle (1). The random models hide nothing that matters, so that only learning "
            "stands between IC-Q and the oracle; where an option leads matters more than what it pays. With tables, "
            "full information, shared and averaged parameters are IC-Q itself and are not run again.",
            f"At growing gap IC-Q can at best learn {Q_PHI}, which depends on the behaviour policy; these runs behave "
            "uniformly at random, as the exact solution assumes. What the policy that is greedy in it loses is known "
            "exactly and bounded by T1.3.",
        ),
        {
            "returns": "(a), (b) Normalised returns with 95&nbsp;% intervals over replicas, on an axis that is "
            "logarithmic in the distance from the oracle; dotted: 0.99. In grey, the numbers that cross between agents "
            "at each handoff, on the planted model. Random models are named by their seed. (c) What IC-Q&rsquo;s "
            f"greedy policy loses, beside the exact loss of the policy that is greedy in {Q_PHI} and T1.3."
        },
    ),
    "messages": Section(
        "Messages: scalars that fail",
        (
            "Tabular IC-Q on the planted model, through channels with one fault each, with and without clipping what "
            "is heard to the value range that is known before anything is learned. All channels meet the same "
            "handoffs. The shift is the sup norm of the mean over replicas of what a fault changes in the values.",
            "A lost message is an update less and no more. A late message was meant for another segment. Errors of "
            "mean 0 leave the fixed point where it is, so that rounding at random needs fewer bits than rounding to "
            f"the nearest level, which moves it by at most {GAMMA_BAR} e / (1&nbsp;&minus;&nbsp;{GAMMA_BAR}) with e "
            "half a step (L1); through the maximum, noise still shifts values while they are learned. "
            f"Clipping bounds what liars can do by {GAMMA_BAR} times the width of the range, but that range "
            "is wide, and lies inside it cost the return as well.",
        ),
        {
            "messages": "(a) to (g) Normalised return against the strength of the fault; filled: messages as they "
            "arrive, hollow: clipped; where a hollow marker surrounds a filled one, clipping changes nothing. (h) "
            "Shift by rounding, beside the bound for rounding to the nearest level. (i) Shift by lies from outside the "
            "value range, beside the bound for clipped messages."
        },
    ),
    "model": Section(
        "The given model",
        (
            "What hiding the state costs in this model (T1, T1.1, T1.2), what acting on the interface values costs "
            "(T1.3), and how IC-Q&rsquo;s error falls with the number of handoffs, against the central limit (P2) and, "
            "where A6 is certified, against T3.",
        ),
        {
            "samples": "Spread, bias and RMSE of the tail average with the central-limit line, and the average iterate "
            "against the roots of T3 and T3.1.",
            "width": "Errors of m features per agent against T2.1 and T2, with C where it is known.",
        },
    ),
    "sweep": Section(
        "The sweep",
        (
            "Every cell is a model of the family with constants of its own, and every bound is that of its cell. The "
            f"interface gap and the policy loss are exact. {Q_M} is where IC-Q with the cell&rsquo;s function class "
            f"converges: {Q_PHI} itself for tables. Curves show the cells that the figure settings choose; the figure "
            "of all checks shows every cell.",
            READING,
        ),
        {
            "interface": "(a) The exact gap against T1 and, with a single group, its sharper forms T1.1 and T1.2. (b) "
            "The exact policy loss against T1.3.",
            "spread": "(a) Spread of the tail average over replicas against the central limit P2, and without its "
            "Poisson terms where that makes a difference. (b) Its bias, for which no line is claimed.",
            "approximation": f"Distance of {Q_M} from {Q_PHI}, exact, against T2 with the exact projection error.",
            "residual": f"RMSE of the average iterate to {Q_M}, constant step, against the root of T3.",
            "total": f"RMSE of the average iterate to {Q_STAR} against T4, the sum of the three terms.",
            "checks": "Every row with a bound, in every cell: the measured value against its own bound. The line is "
            "where they would be equal; nothing may lie above it.",
        },
    ),
}

SLOPES = {
    "samples_spread": "spread against K, tabular (P2)",
    "samples_spread_tabular": "spread against K, tabular (P2)",
    "model_spread_tabular": "spread against K, tabular (P2)",
    "samples_spread_linear": "spread against K, linear (P2)",
    "gap": "interface gap against η (P3)",
    "width_approximant": "sampled approximant against m (T2.1)",
    "width_projection": "projection error against m (T2.1)",
    "width_trained": "trained nets' error against m, all widths (no bound)",
    "width_trained_limited": "trained nets' error against m, where width limits them (no bound)",
    "model_width_projection": "projection error against m (T2.1)",
    "model_width_fixed_point": "fixed-point error against m (T2)",
    "width_fixed_point": "fixed-point error against m (T2)",
}

CONSTANTS = {
    "gamma": "&gamma;",
    "gamma_bar": f"{GAMMA_BAR} (D2)",
    "kappa": "&kappa; (P1)",
    "a6_certified": "A6",
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
    "interface_gap": "gap",
    "interface_bound": "T1",
    "num_states": "states",
    "num_interfaces": "interfaces",
    "num_agents": "agents",
    "num_options": "options",
}
