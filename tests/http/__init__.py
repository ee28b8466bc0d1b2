"""Tests of the one HTTP client."""  # noqa: A005 - the room has the name of what it speaks
