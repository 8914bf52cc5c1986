"""From reviews and a recipe to a run folder: the second floor, on top of the four rooms."""
