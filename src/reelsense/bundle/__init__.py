"""The artefact: one folder with the graph, the tokenizer and what was measured of them."""
