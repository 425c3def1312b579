"""What learned handoffs earn."""
