"""What the compiler does in this process, as JAX itself reports it."""

from __future__ import annotations

COMPILING = "/jax/core/compile/backend_compile_duration"  # what JAX calls it; traces within traces would count twice
FROM_CACHE = "/jax/compilation_cache/cache_hits"


class CompileClock:
    """What the compiler did in this process since the clock was made.

    Attributes:
      seconds: spent in it, or on reading the persistent cache.
      programs: programs that were asked for.
      loaded: those of them that the persistent cache had.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.programs = self.loaded = 0
        self._running = True
        import jax

        jax.monitoring.register_event_duration_secs_listener(self._hear)
        jax.monitoring.register_event_listener(self._hear_event)

    def _hear(self, event: str, duration_secs: float, **_: str | int) -> None:
        if self._running and event == COMPILING:
            self.seconds += duration_secs
            self.programs += 1

    def _hear_event(self, event: str, **_: str | int) -> None:
        if self._running and event == FROM_CACHE:
            self.loaded += 1

    def taken(self) -> tuple[float, int, int]:
        """``seconds``, ``programs`` and ``loaded``, which begin at 0 again."""
        found = self.seconds, self.programs, self.loaded
        self.seconds, self.programs, self.loaded = 0.0, 0, 0
        return found

    def add(self, seconds: float, programs: int, loaded: int) -> None:
        """Counts what another process did."""
        self.seconds += seconds
        self.programs += programs
        self.loaded += loaded

    def stop(self) -> None:
        """Stops counting."""
        self._running = False
