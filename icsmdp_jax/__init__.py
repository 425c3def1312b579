"""Learning to hand off: interface-constrained semi-Markov decision processes in JAX."""

__version__ = "0.2.0"
