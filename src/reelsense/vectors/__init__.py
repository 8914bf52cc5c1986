"""Pre-trained word vectors. Knows no network."""
