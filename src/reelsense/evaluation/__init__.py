"""From labels and probabilities to figures, pictures and a report. Knows no network."""
