"""Whole runs, as users make them: real packages, real registry, real engine."""
