"""From files to reviews, parts and token ids. Knows no vectors and no network."""
