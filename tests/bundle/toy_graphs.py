"""Small networks, their graphs, and reviews for them: what several tests of graphs begin with."""

import numpy as np
import torch

from reelsense.bundle import session
from reelsense.bundle.graph import build_graph
from reelsense.model.networks import build
from reelsense.model.recipe import Recipe

WORDS = 120
LENGTHS = [0, 1, 2, 17, 64, 90]


def network_of(**values):
    """A network with weights large enough that its states use their range."""
    recipe = Recipe(**{"hidden": 14, **values})
    chance = np.random.default_rng(1)
    vectors = chance.normal(0, 0.6, (WORDS, 9)).astype(np.float32)
    vectors[0] = 0
    network = build(recipe, vectors, np.ones(WORDS, bool))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "output" in name or "dense" in name or "bias" in name:
                weight.copy_(torch.from_numpy(chance.normal(0, 0.5, weight.shape)))
    return network


def weights_of(network):
    return {name: weight.detach().numpy() for name, weight in network.state_dict().items()}


def graph_of(network, variant="fp32", temperature=1.0):
    return session.open_session(
        build_graph(network.recipe, weights_of(network), temperature, variant)
    )


def reviews(lengths=LENGTHS, seed=0):
    chance = np.random.default_rng(seed)
    return [chance.integers(1, WORDS, length).astype(np.int32) for length in lengths]


def torch_logits(network, rows):
    padded = torch.zeros(len(rows), max(1, *map(len, rows)), dtype=torch.int64)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = torch.from_numpy(row)
    with torch.inference_mode():
        return network(padded, torch.tensor([len(row) for row in rows])).numpy()
