"""The vocabulary of a handoff and the contract of an environment."""
