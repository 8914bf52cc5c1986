"""What a network is: its recipe, and from token ids to a logit. Knows no data."""
