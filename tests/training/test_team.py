"""What processes that train together tell each other: two real ones, over gloo."""

import subprocess
import sys

import pytest

# Two processes check what one alone cannot: each prints "fine" or says what it saw.
PROGRAM = """
import sys
import numpy as np, torch
from reelsense.errors import BadInput
from reelsense.torchrun import place
from reelsense.training import team as teams
from reelsense.training.checkpoint import Position
from reelsense.training.regularise import Gradients

torch.set_num_threads(1)
team = teams.join(place())
rank = team.rank
assert team.size == 2 and team.first == (rank == 0)
assert teams.largest(team, 15 * rank) == 15
assert teams._from_first(b"from 0" if rank == 0 else b"x" * 9) == b"from 0"

weights = {"a": torch.zeros(2, 3), "b": torch.zeros(5)}
def part(seed):
    chance = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(weight.shape, generator=chance) for weight in weights.values()]
    return Gradients(drawn, 0.1 * seed, seed, 2 * seed)
both = teams.sum_over(team, [part(rank + 1)], weights)
for found, one, other in zip(both.of_weights, part(1).of_weights, part(2).of_weights):
    assert torch.equal(found, one + other)
assert (both.loss, both.correct, both.labelled) == (0.1 * 1 + 0.1 * 2, 3, 6)
# A batch of one review leaves the second process nothing to do.
alone = teams.sum_over(team, [part(1)] if rank == 0 else [], weights)
assert all(torch.equal(a, b) for a, b in zip(alone.of_weights, part(1).of_weights))

teams.need_the_same(team, {"recipe": "a", "data": "b"})
try:
    teams.need_the_same(team, {"recipe": "a", "data": f"b{rank}"})
except BadInput as error:
    assert "process 1 of the training has another data than process 0" in str(error)
else:
    raise AssertionError("different data were let through")

teams.leave(team)
print("fine", flush=True)
"""


@pytest.mark.slow
def test_what_two_processes_have_together(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(program)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fine") == 2  # on one pipe, whose letters may mix
