"""A recipe's network and its first weights. Knows no loss, data, device or file."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reelsense.model.convolutional import CNN, DPCNN, MeanOfVectors
from reelsense.model.pooled import Network
from reelsense.model.recipe import Recipe
from reelsense.model.recurrent import CNNLSTM, BiGRU, BiLSTM

NETWORKS: Final[dict[str, type[Network]]] = {
    "bilstm": BiLSTM,
    "bigru": BiGRU,
    "cnn": CNN,
    "dpcnn": DPCNN,
    "cnn-lstm": CNNLSTM,
    "mean": MeanOfVectors,
}


def untrained(recipe: Recipe, words: int, dimensions: int) -> Network:
    """Return the recipe's network with weights that mean nothing, for others to be put into."""
    return NETWORKS[recipe.arch](recipe, words, dimensions)


def build(recipe: Recipe, vectors: NDArray[np.float32], found: NDArray[np.bool_]) -> Network:
    """Return the recipe's network with its first weights, the same for the same seed.

    Args:
        recipe: the network's shape and its seed.
        vectors: (V, D), a row a word of the vocabulary; row 0 is padding.
        found: (V,), where `vectors` has a vector. The others start at random, as spread as these.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    network = untrained(recipe, *vectors.shape)
    with torch.no_grad():
        table = torch.tensor(vectors)
        missing = torch.tensor(~found)
        spread = float(vectors[found].std()) if found.any() else 0.1
        shape = (int(missing.sum()), vectors.shape[1])
        table[missing] = torch.empty(shape).normal_(0.0, spread, generator=generator)
        table[0] = 0.0
        network.embedding.weight.copy_(table)
        for name, weight in network.named_parameters():
            if not name.startswith("embedding"):
                initialise(name, weight, generator)
    return network


def initialise(name: str, weight: Tensor, generator: torch.Generator) -> None:
    """Set one weight: orthogonal recurrences, Xavier inputs, forget bias 1 (Jozefowicz 2015).

    Convolutions begin as torch's own do, with a sixth of the variance of He et al. 2015: with
    theirs, and the highest of 250 states pooled, a deep pyramid's first loss was 6 and not 0.7.
    """
    gates = 3 if "_gru" in name else 4
    if "weight_hh" in name:
        # On one core: several factorise a matrix with other last bits than one does.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for gate in weight.chunk(gates):
            nn.init.orthogonal_(gate, generator=generator)
        torch.set_num_threads(threads)
    elif "weight_ih" in name:
        for gate in weight.chunk(gates):
            nn.init.xavier_uniform_(gate, generator=generator)
    elif "weight" in name and weight.dim() == 3:
        span = weight[0].numel() ** -0.5
        nn.init.uniform_(weight, -span, span, generator=generator)
    elif "weight" in name:
        nn.init.xavier_uniform_(weight, generator=generator)
    else:
        weight.zero_()
        if "bias_ih" in name and gates == 4:  # torch adds two biases; the gates stand in i, f, g, o
            weight.chunk(4)[1].fill_(1.0)
