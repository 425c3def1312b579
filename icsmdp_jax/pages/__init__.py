"""The shell of every HTML page: one self-contained file that can be explored, read aloud, and printed."""
