"""Tests of spec files: what is read, what is refused in which words, and what is generated from them."""
