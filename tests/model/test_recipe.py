import dataclasses
import math
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelsense.errors import BadInput
from reelsense.model.recipe import SHIPPED, Recipe, read_recipe, shipped_recipes
from reelsense.model.settings import differences, flag

FIELDS = dataclasses.fields(Recipe)
KIND = {setting.name: type(setting.default) for setting in FIELDS}
# TOML holds no lone surrogates; every other character must come back.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def valid(setting):
    """Any value that the field allows by itself."""
    choices, low, high = (setting.metadata[key] for key in ("choices", "low", "high"))
    if setting.name == "arch":  # the others have one layer, or no last state
        return st.sampled_from(("bilstm", "bigru", "cnn-lstm"))
    if setting.name == "augment":  # shuffle goes without --cleanup classic
        choices = tuple(choice for choice in choices if choice != "shuffle")
    if choices:
        return st.sampled_from(choices)
    if setting.name in ("validation", "test"):  # together below 1; 0 goes without patience
        return st.floats(0.001, 0.45)
    if setting.name == "crop_tokens":  # not above max_tokens
        return st.just(0)
    kind = KIND[setting.name]
    if kind is int:
        return st.integers(int(low), None if high == math.inf else int(high))
    if kind is float:
        return st.floats(low, high, allow_infinity=False, allow_nan=False)
    return {bool: st.booleans(), str: TEXT}[kind]


@given(st.fixed_dictionaries({setting.name: valid(setting) for setting in FIELDS}))
def test_any_recipe_comes_back_from_its_toml(values):
    recipe = Recipe(**values)
    text = recipe.to_toml()
    assert Recipe.from_toml(text, "a file") == recipe
    assert set(tomllib.loads(text)) == set(KIND)


def test_every_field_has_help_and_a_line_of_toml_that_says_it():
    lines = Recipe().to_toml().splitlines()
    assert len(lines) == len(FIELDS)
    for setting, line in zip(FIELDS, lines, strict=True):
        assert line.startswith(f"{setting.name} = ")
        assert line.endswith(f"  # {setting.metadata['help']}")
        assert len(setting.metadata["help"]) > 5


def test_fields_left_out_keep_their_defaults():
    assert Recipe.from_toml("", "x") == Recipe()
    assert Recipe.from_toml("hidden = 7", "x") == Recipe(hidden=7)


def test_an_unknown_key_is_named_with_the_file_and_a_way_on():
    with pytest.raises(BadInput, match=r"my\.toml: unknown key 'hiden'.*reelsense recipes"):
        Recipe.from_toml("hiden = 7", "my.toml")


def test_what_is_not_toml_says_so():
    with pytest.raises(BadInput, match=r"my\.toml: not valid TOML"):
        Recipe.from_toml("hidden: 7", "my.toml")


WRONG = {str: [7, True, ["a"]], int: ["7", 7.0, True], float: ["0.5", True], bool: [1, "true"]}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, kind in KIND.items() for value in WRONG[kind]]
)
def test_a_value_of_another_kind_names_the_flag(name, value):
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    with pytest.raises(BadInput) as caught:
        Recipe(**{name: value})
    assert f"{flag(name)} must be {words[KIND[name]]}, not {value!r}" in str(caught.value)


@pytest.mark.parametrize("setting", FIELDS, ids=lambda setting: setting.name)
def test_a_value_out_of_range_names_the_flag_and_the_range(setting):
    low, high, kind = setting.metadata["low"], setting.metadata["high"], KIND[setting.name]
    if setting.metadata["choices"]:
        with pytest.raises(BadInput) as caught:
            Recipe(**{setting.name: "nonsense"})
        assert flag(setting.name) + " must be one of " in str(caught.value)
        assert all(choice in str(caught.value) for choice in setting.metadata["choices"])
        assert "not 'nonsense'" in str(caught.value)
        return
    if kind not in (int, float):
        return
    bad = [kind(low) - kind(1)] + ([kind(high) + kind(1)] if high != math.inf else [])
    for value in bad + ([math.nan] if kind is float else []):
        with pytest.raises(BadInput) as caught:
            Recipe(**{setting.name: value})
        assert str(caught.value).startswith(f"{flag(setting.name)} must be ")
        assert str(caught.value).endswith(f"not {value}")


def test_no_field_takes_infinity():
    for name, kind in KIND.items():
        if kind is float:
            with pytest.raises(BadInput, match=flag(name)):
                Recipe(**{name: math.inf})


def test_patience_without_validation_is_refused_and_names_both_flags():
    with pytest.raises(BadInput, match=r"--patience 3 watches .*--validation 0 .*--patience 0"):
        read_recipe("classic").changed(validation=0.0)
    nothing = read_recipe("classic").changed(validation=0.0, test=0.0, patience=0)
    assert Recipe.from_toml(nothing.to_toml(), "x") == nothing


@pytest.mark.parametrize("arch", ["cnn", "dpcnn", "mean"])
def test_what_has_no_end_is_not_pooled_at_its_end(arch):
    with pytest.raises(BadInput, match=rf"--pooling last .*--arch {arch} has no end; pool by max"):
        Recipe(arch=arch, pooling="last")


@pytest.mark.parametrize("arch", ["cnn", "mean"])
def test_what_cannot_be_stacked_is_not_stacked(arch):
    with pytest.raises(BadInput, match=rf"--layers 2: --arch {arch} has one; leave it out"):
        Recipe(arch=arch, layers=2)


def test_a_recipe_of_values_is_checked_like_one_of_a_file():
    assert Recipe.from_values({"hidden": 7}, "x") == Recipe(hidden=7)
    for values, message in (({"hiden": 7}, "unknown key 'hiden'"), ({"hidden": "7"}, "--hidden")):
        with pytest.raises(BadInput, match=rf"my/bundle\.json: .*{message}"):
            Recipe.from_values(values, "my/bundle.json")


def test_a_whole_number_does_for_a_fraction():
    for name, value in (("clip", 1), ("learning_rate", 1), ("dropout", 0)):
        recipe = Recipe.from_toml(f"{name} = {value}", "x")
        assert getattr(recipe, name) == value
        assert Recipe.from_toml(recipe.to_toml(), "x") == recipe


def test_values_that_contradict_each_other_name_both_flags():
    with pytest.raises(BadInput, match=r"--crop-tokens 50 .*--max-tokens 20"):
        Recipe(crop_tokens=50, max_tokens=20)
    assert Recipe(crop_tokens=50, max_tokens=0).crop_tokens == 50  # 0 is no limit
    with pytest.raises(BadInput, match=r"--validation 0\.6 .*--test 0\.4"):
        Recipe(validation=0.6, test=0.4)
    with pytest.raises(BadInput, match=r"--augment shuffle .*--cleanup classic .*leave out one"):
        Recipe(augment="shuffle", cleanup="classic")


def test_a_bad_value_in_a_file_names_the_file_and_the_flag():
    with pytest.raises(BadInput, match=r"^my\.toml: --hidden must be at least 1, not 0$"):
        Recipe.from_toml("hidden = 0", "my.toml")


def test_changed_checks_again_and_leaves_the_first_alone():
    recipe = Recipe(hidden=4)
    assert recipe.changed(hidden=5).hidden == 5
    assert recipe.hidden == 4
    with pytest.raises(BadInput, match="--hidden"):
        recipe.changed(hidden=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.hidden = 9


def test_the_shipped_recipes_load_and_are_named_as_their_files():
    shipped = shipped_recipes()
    assert {"classic", "default", "quick"} <= set(shipped)
    assert set(shipped) == {path.stem for path in SHIPPED.glob("*.toml")}
    for name, recipe in shipped.items():
        assert recipe.name == name
        assert recipe.about
        assert read_recipe(name) == recipe


def test_classic_is_the_original_system():
    classic = read_recipe("classic")
    assert not classic.train_embedding
    assert (classic.hidden, classic.layers, classic.pooling, classic.dense) == (128, 1, "last", 64)
    assert (classic.embedding_dropout, classic.word_dropout, classic.dropout) == (0.2, 0, 0.5)
    assert (classic.max_tokens, classic.cleanup, classic.crop_tokens) == (100, "classic", 0)
    assert (classic.learning_rate, classic.schedule) == (1e-3, "constant")
    assert classic.batch_reviews == 128
    assert (classic.epochs, classic.patience, classic.average) == (10, 3, 0)


def test_a_recipe_is_read_from_a_file_too(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nhidden = 3\n', encoding="utf-8")
    assert read_recipe(str(path)) == Recipe(name="mine", hidden=3)
    path.write_text("hidden = 3\n", encoding="utf-8")  # without a name it has its file's
    assert read_recipe(str(path)) == Recipe(name="mine", hidden=3)


def test_no_such_recipe_lists_those_that_there_are(tmp_path):
    for name in ("clasic", str(tmp_path / "none.toml"), str(tmp_path)):
        with pytest.raises(BadInput) as caught:
            read_recipe(name)
        assert f"recipe {name}: no such recipe" in str(caught.value)
        assert f"the shipped ones are {', '.join(shipped_recipes())}" in str(caught.value)


def test_a_recipe_that_is_not_utf8_says_so(tmp_path):
    (tmp_path / "latin.toml").write_bytes(b'about = "caf\xe9"')
    with pytest.raises(BadInput, match=r"^recipe .*latin\.toml: not a TOML file .*UTF-8"):
        read_recipe(str(tmp_path / "latin.toml"))


def test_a_shipped_name_is_no_path_out_of_the_package():
    with pytest.raises(BadInput, match="no such recipe"):
        read_recipe("../recipes/classic")


def test_differences_are_the_fields_that_differ():
    a = Recipe()
    assert differences(a, a) == {}
    assert differences(Recipe(hidden=4, seed=1), Recipe(hidden=5, seed=1)) == {"hidden": (4, 5)}
    assert flag("max_tokens") == "--max-tokens"
