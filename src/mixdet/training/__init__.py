"""The plain loop and what it stands on."""
