"""Long runs that survive: directories with checked part files, an engine, progress for other shells."""
