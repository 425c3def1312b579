"""Example models: scripts that write the files of ``examples/models/`` and can be imported."""
