"""Messages that fail."""
