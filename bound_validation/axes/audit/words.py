"""What the report says about the audit axis."""

from bound_validation.words import GAMMA_BAR, Q_PHI, Section

SECTION = Section(
    "Audit: how wrong is this table?",
    (
        "Every other bound of this report speaks of what will be learned, on average and from a model. Here a table "
        "that was learned says how wrong it is itself (T5). All agents freeze their parameters and go on handing off; "
        "each averages its own temporal differences, and in the end they compare their largest upper limits. Their "
        f"largest residual over 1 &minus; {GAMMA_BAR}, both by their limits, bounds the distance to {Q_PHI} in the sup "
        "norm, with no model and no mixing time. What is learned from ever more handoffs has ever smaller residuals; "
        "the limits cannot become smaller than the noise of the audit, which is why the certificate flattens out.",
        "With the model the same limits give a tighter bound, entry by entry. Where the chain mixes slowly, batches "
        "must be long beside its memory: 20 mixing times and more.",
    ),
    {
        "audit": "(a) to (c) Error of tail-averaged tables in the sup norm on three models, beside the certificate of "
        "the audit without a model, and the entrywise one with it; root mean squares over replicas. (d) Share of "
        "95&nbsp;% intervals of single residuals that miss the exact value."
    },
)
