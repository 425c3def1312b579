"""One experiment for each environment: every method on the same footing, with intervals, one figure and one table."""
