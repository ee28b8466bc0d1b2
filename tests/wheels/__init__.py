"""Tests of the Python environment: choosing, installing and packing wheels."""
