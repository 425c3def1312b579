"""From logs of handoffs to a model, a better handoff policy and a report on how sure that is."""
