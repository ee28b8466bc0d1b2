"""Choosing: what decides a lock, how it is chosen, and the layers that are made from it."""
