"""Ranges as people write them."""

import dataclasses

import pytest

from reelsense.errors import BadInput
from reelsense.experiments.ranges import NOT_SEARCHED, Range, read_ranges, usual_ranges
from reelsense.model.recipe import Recipe, shipped_recipes


def read(*given, fixed=()):
    return read_ranges(given, fixed)


def test_two_numbers_are_everything_between_them():
    assert read("hidden=64..256") == (Range("hidden", 64, 256),)
    (rate,) = read("learning-rate = 1e-3 .. 1e-2")  # as its flag is written
    assert (rate.name, rate.low, rate.high) == ("learning_rate", 0.001, 0.01)
    assert read("dropout=.1...5") == (Range("dropout", 0.1, 0.5),)
    (share,) = read("dropout=0..1e-1")
    assert (type(share.low), type(read("hidden=1..2")[0].low)) == (float, int)


@pytest.mark.parametrize(
    ("text", "log"),
    [("learning_rate=1e-3..1e-2", True), ("learning_rate=1e-3..9e-3", False),
     ("hidden=8..80", True), ("dropout=0..0.9", False), ("hidden=8,80", False)],
)  # fmt: skip
def test_a_decade_or_more_is_searched_by_factors(text, log):
    assert read(text)[0].log is log


def test_a_list_is_one_of_its_values():
    assert read("pooling=max,mean")[0].choices == ("max", "mean")
    assert read("min_count=1, 2,5")[0].choices == (1, 2, 5)
    assert read("tie_names=true,False")[0].choices == (True, False)
    # Two dots in a path are no range.
    assert read("embedding=../a.txt,../b.txt")[0].choices == ("../a.txt", "../b.txt")


def test_several_ranges_keep_their_order_and_read_again_from_what_they_say():
    given = ("dropout=0.0..0.5", "pooling=max,mean", "tie_names=true,false", "hidden=4..8")
    ranges = read(*given)
    assert [f"{each.name}={each}" for each in ranges] == list(given)
    assert read(*(f"{each.name}={each}" for each in ranges)) == ranges


def test_a_range_holds_its_ends_and_a_list_its_values_alone():
    (numbers,) = read("hidden=4..8")
    assert [numbers.holds(value) for value in (3, 4, 6, 8, 9)] == [False, True, True, True, False]
    (listed,) = read("hidden=4,8")
    assert [listed.holds(value) for value in (4, 6, 8)] == [True, False, True]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("hidden", "--range hidden: write FIELD=LOW..HIGH or FIELD=A,B,C, as in --range hidden=64"),
        ("hiden=1..2", "--range hiden=1..2: a recipe has no field 'hiden'; `reelsense recipes def"),
        ("=1..2", "a recipe has no field ''"),
        ("hidden=8..4", "--range hidden=8..4: write the lower number first"),
        ("hidden=4..4", "write the lower number first"),
        ("hidden=0..8", "--range hidden=0..8: --hidden must be at least 1, not 0"),
        ("hidden=4..x", "--range hidden=4..x: 'x' is not a whole number"),
        ("hidden=4.5..8", "'4.5' is not a whole number"),
        ("hidden=", "'' is not a whole number"),
        ("hidden=..8", "'' is not a whole number"),
        ("hidden=4,,8", "'' is not a whole number"),
        ("dropout=0..2", "--dropout must be from 0 to 0.95, not 2.0"),
        ("dropout=0..nan", "--dropout must be from 0 to 0.95, not nan"),
        ("dropout=a,b", "'a' is not a number"),
        ("clip=1..inf", "--clip must be finite"),
        ("pooling=max..mean", "--pooling must be one of last, mean, max, max.mean.*, not 'max..m"),
        ("pooling=max,min", "--pooling must be one of .*, not 'min'"),
        ("tie_names=yes,no", "'yes' is not true or false"),
        ("hidden=4,4", "--range hidden=4,4: a value stands there twice; leave one out"),
        ("hidden=4", "--range hidden=4: one value is no choice; .* set it with --hidden VALUE"),
        ("tie_names=true", "one value is no choice; give several, or set it with --tie-names$"),
        ("seed=1..9", "--range seed=1..9: seed is chance, and a lucky one helps nobody; --seed"),
        ("split_seed=1,2", "split_seed decides on which reviews trials are compared; leave"),
    ],
)
def test_what_is_no_range_is_refused_in_one_line(given, message):
    with pytest.raises(BadInput, match=message) as refused:
        read(given)
    assert "\n" not in str(refused.value)


def test_a_field_is_searched_once_and_not_set_as_well():
    with pytest.raises(BadInput, match="--range hidden=4,8: hidden has two ranges; leave one out"):
        read("hidden=1..2", "hidden=4,8")
    with pytest.raises(BadInput, match="--range hidden=4,8: --hidden sets that field already"):
        read("hidden=4,8", fixed=["hidden"])


@pytest.mark.parametrize("recipe", shipped_recipes().values(), ids=lambda recipe: recipe.name)
def test_the_usual_ranges_are_within_what_the_fields_allow(recipe):
    ranges = usual_ranges(recipe, ())
    assert [each.name for each in ranges][:2] == ["learning_rate", "hidden"]
    for each in ranges:
        assert each.low < each.high
        assert each.holds(getattr(recipe, each.name))
        for end in (each.low, each.high):
            recipe.changed(**{each.name: end})
    assert ranges[0].log


def test_the_usual_ranges_stay_within_the_limits_of_the_fields():
    for rate in (1e-8, 10.0):
        (found,) = usual_ranges(
            Recipe(learning_rate=rate),
            ["hidden", "dropout", "embedding_dropout", "word_dropout"],
        )
        Recipe(learning_rate=found.low)
        Recipe(learning_rate=found.high)
    assert usual_ranges(Recipe(hidden=1), ())[1] == Range("hidden", 1, 2)


def test_the_usual_ranges_leave_out_what_has_been_set():
    names = [each.name for each in usual_ranges(Recipe(), ())]
    assert [each.name for each in usual_ranges(Recipe(), ["hidden"])] == [
        name for name in names if name != "hidden"
    ]
    with pytest.raises(BadInput, match="every field that is searched by default has been set"):
        usual_ranges(Recipe(), names)


def test_what_is_not_searched_are_fields():
    assert set(NOT_SEARCHED) < {field.name for field in dataclasses.fields(Recipe)}
