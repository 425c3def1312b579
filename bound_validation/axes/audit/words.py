"""What the report says about the audit axis."""

from bound_validation.words import GAMMA_BAR, Q_PHI, Section

SECTION = Section(
    "Audit: how wrong is this table?",
    (
        "Every other bound of this report is about what will be learned, on average, and needs a model. Here the "
        "agents themselves find out how wrong a learned table is (T5). They freeze their parameters and keep handing "
        "off; each averages its own temporal differences, and at the end they compare their largest upper limits. The "
        f"largest residual over 1 &minus; {GAMMA_BAR}, both by their limits, bounds the distance to {Q_PHI} in the sup "
        "norm, with no model and no mixing time. The more handoffs a table was learned from, the smaller its "
        "residuals, but the limits cannot fall below the noise of the audit, so the certificate flattens out.",
        "With the model the same limits give a tighter bound, entry by entry. Where the chain mixes slowly, batches "
        "must be long compared with its memory: 20 mixing times or more.",
    ),
    {
        "audit": "(a) to (c) Error of tail-averaged tables in the sup norm on three models, with the certificate of "
        "the audit without a model and the entrywise one with it; root mean squares over replicas. (d) Share of "
        "95&nbsp;% intervals of single residuals that miss the exact value."
    },
)
