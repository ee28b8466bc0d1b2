"""mlpkg: make for model images."""

__version__ = "0.1.0"
