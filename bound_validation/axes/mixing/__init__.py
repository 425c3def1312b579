"""The residual as the hidden part mixes more slowly."""
