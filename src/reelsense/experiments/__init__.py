"""Questions that take many runs: the third floor, on top of the training and the bundle."""
