"""Film-review sentiment with a bidirectional LSTM on GloVe word vectors."""

__version__ = "0.1.0"
