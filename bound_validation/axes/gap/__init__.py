"""The interface gap."""
