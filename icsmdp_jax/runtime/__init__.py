"""Handing off in a running pipeline: agents that act, offer and absorb as in the theory, without JAX (D9)."""
