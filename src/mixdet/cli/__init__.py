"""The command ``mixdet``: ``main`` parses (light), a file for each command does its work (loaded when chosen)."""
