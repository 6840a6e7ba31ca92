"""Studies that come with mixdet, a YAML for each table (package data)."""
