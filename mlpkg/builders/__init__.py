"""Builders: a plan becomes an image record."""
