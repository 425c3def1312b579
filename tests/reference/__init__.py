"""Plain NumPy twins of the exact analysis and of the learner, written from the definitions alone."""
