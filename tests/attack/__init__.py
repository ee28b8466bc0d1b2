"""Standing attacks: seeded, short ones in every run, long ones by `make test-long`."""
