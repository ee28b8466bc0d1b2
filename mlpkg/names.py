"""Names that others define, as regular expressions: one place for what a spec may hold and what a client sends.

They are texts, because the JSON Schema of package.toml prints them: Python and ECMA-262 read them alike.
Match with `re.fullmatch`: Python's ``$`` alone would also pass a line end after the name.
"""

from __future__ import annotations

REPOSITORY = r"^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$"
"""A repository (OCI distribution-spec, "Pulling manifests")."""

LONGEST_REPOSITORY = 255
"""Characters of a repository, with the registry's host and port (OCI distribution-spec, same place)."""

TAG = r"^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$"
"""A tag (OCI distribution-spec, "Pulling manifests")."""

MODEL = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}$"
"""A model (azure-contract §1.3)."""

DEBIAN_PACKAGE = r"^[a-z0-9][a-z0-9+.-]+$"
"""A Debian package (Debian policy 5.6.1)."""

PYTHON_PACKAGE = r"^[a-z0-9]+(-[a-z0-9]+)*$"
"""A Python package by its normalised name (PEP 503)."""

VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
"""An environment variable, without anchors (POSIX.1-2017, XBD 8.1)."""

LABEL = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,253}[A-Za-z0-9])?$"
"""A label or annotation of an image: reverse domain name by custom (OCI image-spec, "Annotations")."""
