"""What a batch costs: cross-entropy, adversarial and virtual adversarial training, entropy.

Miyato, Dai & Goodfellow, "Adversarial Training Methods for Semi-Supervised Text Classification",
ICLR 2017: the loss is taken a second time at word vectors that were moved a little in the worst
direction. Rows with a label are held to their label there, rows without (label -1) to the
network's own answer. Grandvalet & Bengio, "Semi-supervised Learning by Entropy Minimization",
NIPS 2005: the answer to rows without a label should be sure.

With one logit z a review the worst direction needs no search. Every loss here is a function of z,
so its gradient at the vectors is a multiple of z's; and the second derivatives of the divergence at
the answer itself, p (1 - p) dz dz', have rank one: dz is the only direction in which it rises. The
power iteration of the paper (its equation 9) would find dz at the price of one more pass there and
back; the gradient of the entropy is dz already, turned to the side where the answer falls.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import softplus

from reelsense.model.pooled import Network
from reelsense.model.recipe import Recipe
from reelsense.training.batches import Batch

EMBEDDING: Final = "embedding.weight"
# The weight of the entropy where the recipe asks for none: too little to teach anything, but enough
# to have a direction.
TRACE: Final = 1e-6


@dataclass(frozen=True, eq=False)
class Gradients:
    """Of the weights, in their order, with what the answers were worth before any noise.

    Of the labelled rows: the sum of their cross-entropy, how many are right, and how many they are.
    """

    of_weights: list[Tensor]
    loss: float
    correct: int
    labelled: int


def gradients(
    network: Network,
    weights: Mapping[str, Tensor],
    batch: Batch,
    reviews: int,
    recipe: Recipe,
    noise: torch.Generator,
    bf16: bool,
) -> Gradients:
    """Return the gradients of what a batch costs, as a share of so many `reviews`.

    The batch goes through the network and back once, or twice where the recipe asks for noise; the
    words and dimensions that are dropped are the same both times, as in the paper.
    """
    labelled = batch.labels >= 0
    others = [weight for name, weight in weights.items() if name != EMBEDDING]
    kind = batch.ids.device.type
    with torch.autocast(kind, torch.bfloat16, enabled=bf16):
        vectors = network.embed(batch.ids, noise)
        place = vectors.detach().requires_grad_()
        scores = network.classify(place, batch.lengths, noise)
    plain = cross_entropy(scores, batch.labels)
    unsure = max(recipe.entropy, TRACE) * entropy(scores)
    costs = torch.where(labelled, plain, unsure)
    *summed, at_place = torch.autograd.grad(costs.sum() / reviews, [*others, place])
    if recipe.adversarial or recipe.virtual:
        size = torch.where(labelled, recipe.adversarial, recipe.virtual)
        worst = place.detach() + worst_move(at_place, place.detach(), batch.lengths, size)
        worst.requires_grad_()
        with torch.autocast(kind, torch.bfloat16, enabled=bf16):
            moved = network.classify(worst, batch.lengths, noise)
        held_to = torch.where(
            labelled, cross_entropy(moved, batch.labels), divergence(scores.detach(), moved)
        )
        costs = held_to * (size > 0)
        *more, at_worst = torch.autograd.grad(costs.sum() / reviews, [*others, worst])
        summed = [first + second for first, second in zip(summed, more, strict=True)]
        at_place = at_place + at_worst
    if EMBEDDING in weights:
        (of_table,) = torch.autograd.grad(vectors, [weights[EMBEDDING]], at_place)
        summed.insert(list(weights).index(EMBEDDING), of_table)
    correct = ((scores > 0) == (batch.labels > 0.5)) & labelled
    loss = float(plain.detach()[labelled].sum())
    return Gradients(summed, loss, int(correct.sum()), int(labelled.sum()))


def sum_of(parts: Sequence[Gradients]) -> Gradients:
    """Return the sum of the parts of a batch, added in their order."""
    first, *others = parts
    for other in others:
        for total, part in zip(first.of_weights, other.of_weights, strict=True):
            total.add_(part)
    return Gradients(
        first.of_weights,
        sum(part.loss for part in parts),
        sum(part.correct for part in parts),
        sum(part.labelled for part in parts),
    )


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return -y log p - (1 - y) log (1 - p) of each row, y its label, from 0 to 1."""
    # Not torch's own, whose slope p - y is 0 for a positive above 17, and 1e-8 for such a negative.
    return labels * softplus(-scores) + (1 - labels) * softplus(scores)


def entropy(scores: Tensor) -> Tensor:
    """Return -p log p - (1 - p) log (1 - p) of each row (Grandvalet & Bengio 2005, equation 5)."""
    doubt = -scores.abs()  # the same on this side, where what is left of a sure answer resolves
    return softplus(doubt) - doubt * torch.sigmoid(doubt)


def divergence(answers: Tensor, scores: Tensor) -> Tensor:
    """Return KL(p || q) of each row, p after the logits `answers`, q after `scores`.

    The paper's equation 7, for two classes: p (a - b) + log(1 + e^b) - log(1 + e^a).
    """
    return torch.sigmoid(answers) * (answers - scores) + softplus(scores) - softplus(answers)


def worst_move(gradient: Tensor, vectors: Tensor, lengths: Tensor, size: Tensor) -> Tensor:
    """Return the move r = size s g / |g| of each review's vectors (the paper's equation 6).

    s is the root mean square of the review's components: the paper normalises the vectors to unit
    variance and has no need of it. A review without a gradient is not moved.

    Args:
        gradient: (B, T, D), g, of what should rise.
        vectors: (B, T, D).
        lengths: (B,); what stands behind the words is padding, whose vectors are zero.
        size: (B,), |r| for vectors of unit variance.
    """
    flat = gradient.float().flatten(1)
    # Divided by the largest first: squares of what a sure answer leaves would vanish.
    largest = flat.abs().amax(dim=1, keepdim=True)
    flat = flat / largest.clamp(min=torch.finfo(flat.dtype).tiny)
    direction = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)
    components = lengths.clamp(min=1) * vectors.shape[2]
    spread = (vectors.float().square().sum(dim=(1, 2)) / components).sqrt()
    move: Tensor = direction * (size * spread)[:, None]
    return move.view_as(gradient).to(vectors.dtype)
