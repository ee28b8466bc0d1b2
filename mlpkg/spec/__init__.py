"""TOML files to checked values: specs, schema, workspace, listings."""
