"""Long sweeps: cells and replicas over devices and hosts, a run directory that survives, progress for another shell."""
