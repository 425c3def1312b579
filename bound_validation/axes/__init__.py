"""One file per axis of the bound: what is measured, and the theory beside it."""
