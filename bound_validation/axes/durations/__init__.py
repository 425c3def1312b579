"""The error constant against durations."""
