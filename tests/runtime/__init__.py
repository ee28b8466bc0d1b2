"""Tests of the scoring server: the contract against Azure's server, and what orchestrators rely on."""
