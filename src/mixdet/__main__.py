"""``python -m mixdet``."""

from mixdet.cli.main import console

if __name__ == "__main__":  # spawned loader workers import this module too
    console()
