"""Figures of runs: the handoff graph and training. Matplotlib loads when one of these modules does, not before."""
