"""A package on this machine, without a container: its application's folder, its virtual environment, its command."""
