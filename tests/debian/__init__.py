"""Tests of mlpkg.debian. The folder is not called `debian`: that would hide python-debian's own package."""
