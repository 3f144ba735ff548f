"""`hydratune compare`: which of some runs is better, and whether that is more than chance."""
