"""Views of environments for other libraries, and of other libraries' environments for ours."""
