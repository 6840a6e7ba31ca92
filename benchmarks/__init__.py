"""What a step costs, as ratios of CPU time on one thread and as counts of dispatched operations."""
