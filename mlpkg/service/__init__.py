"""A package's image as a running service, with an engine or without one."""
