"""Data sets: readers into packed arrays, checks before step 1, splits, and the drawn scenes."""
