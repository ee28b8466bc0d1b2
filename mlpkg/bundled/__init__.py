"""The parts of the bundled registry's life; `mlpkg.registry` is the way in."""
