"""The residual against the number of handoffs."""
