"""From recipes to results: what the command line and ``import mixdet`` call."""
