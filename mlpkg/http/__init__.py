"""The one HTTP client: for registries, Debian mirrors and package indexes. Knows none of their formats.

`transport` is the way in. It loads urllib3: import it where something is really asked for.
"""
