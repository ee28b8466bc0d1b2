"""The Python packages of an image: chosen as wheels, locked by digest, installed and laid out with uv.

`requirements` and `sources` read what the user wants and where it comes from; `choose` picks wheels for a
`target`; `locked` writes requirements.lock; `install` and `entries` make layer entries of locked wheels, by
the rules of `installed`; `host` makes a virtual environment of this machine. Nothing is imported here:
a run with nothing to do needs only `requirements`.
"""
