import dataclasses
import math
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.model.pretraining import Pretraining
from reelsense.model.recipe import Recipe
from reelsense.model.settings import flag

FIELDS = {setting.name: setting for setting in dataclasses.fields(Pretraining)}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)  # as TOML holds it


def allowed(setting):
    """Any value that the field allows."""
    choices, low, high = (setting.metadata[key] for key in ("choices", "low", "high"))
    if choices:
        return st.sampled_from(choices)
    return {
        int: st.integers(int(low), None if high == math.inf else int(high)),
        float: st.floats(low, high, allow_infinity=False, allow_nan=False),
        str: TEXT,
    }[type(setting.default)]


@given(st.fixed_dictionaries({name: allowed(setting) for name, setting in FIELDS.items()}))
def test_any_recipe_comes_back_from_its_toml(values):
    recipe = Pretraining(**values)
    assert Pretraining.from_toml(recipe.to_toml(), "a file") == recipe
    assert set(tomllib.loads(recipe.to_toml())) == set(FIELDS)


@pytest.mark.parametrize("name", [name for name, s in FIELDS.items() if type(s.default) is not str])
def test_a_number_out_of_range_names_the_flag(name):
    low, high = (FIELDS[name].metadata[key] for key in ("low", "high"))
    kind = type(FIELDS[name].default)
    for value in [kind(low) - kind(1)] + ([kind(high) + kind(1)] if high != math.inf else []):
        with pytest.raises(BadInput, match=f"^{flag(name)} must be .*, not {value}$"):
            Pretraining(**{name: value})


def test_an_unknown_key_names_the_file_and_where_the_keys_of_this_recipe_stand():
    with pytest.raises(BadInput) as caught:
        Pretraining.from_toml("hiden = 7", "my.toml")
    assert str(caught.value).startswith("my.toml: unknown key 'hiden'; ")
    assert "`reelsense pretrain --help`" in str(caught.value)
    assert "recipes default" not in str(caught.value)  # which shows the keys of a training


def test_what_a_training_holds_out_is_held_out_by_the_same_values():
    """By default, and by the same flags."""
    for name in ("validation", "test", "split_seed"):
        assert getattr(Pretraining(), name) == getattr(Recipe(), name)
        assert FIELDS[name].metadata["high"] == Recipe.__dataclass_fields__[name].metadata["high"]


def test_a_recipe_of_a_training_is_none_of_a_pretraining():
    with pytest.raises(BadInput, match="unknown key"):
        Pretraining.from_toml(Recipe().to_toml(), "runs/default/recipe.toml")
