"""All terms together."""
