"""IC-Q with one operating-system process per agent, whose traffic is counted: ``python -m examples.processes``."""
