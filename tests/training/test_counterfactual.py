import numpy as np
import pytest

from reelsense.text.words import tokenize
from reelsense.training import counterfactual
from reelsense.training.counterfactual import (
    AT_FIRST,
    BAD,
    DENIED,
    GOOD,
    LONGEST,
    NEGATED,
    NOW,
    SURE,
    TURNED_GOOD,
    Plain,
    contrasted,
    counterfactuals,
    denied,
    negated,
    outdated,
    plain_sentences,
    rounded,
)

PRAISE = [
    "The acting was really superb.", "I loved this film.", "The music is also very good!",
    "It was just an absolutely delightful movie...", "They enjoyed it a lot.",
    "All in all, the plot is quite gripping.", "There are some scenes that are moving.",
]  # fmt: skip
SCORN = [
    "The plot is dull.", "I hated every minute of it.", "This was such a film that it is boring.",
    "The actors were all terrible.", "It is a really pathetic film.", "We disliked the ending.",
    "The script was so stupid.",
]  # fmt: skip
HARD = "Mr. X's U.S. film is great at 8.5."
REVIEWS = PRAISE + SCORN
LABELS = np.array([1] * len(PRAISE) + [0] * len(SCORN), np.int8)


def plain(text, label=None):
    """The one plain sentence of a text, on either side unless said."""
    sides = (0, 1) if label is None else (label,)
    (found,) = [one for side in sides for one in plain_sentences(text, side)]
    return found


def said(words):
    return None if words is None else " ".join(words)


def every(edit, *ones):
    """All that an edit gives for a hundred seeds."""
    return {said(edit(*ones, np.random.default_rng(seed))) for seed in range(100)}


# --- Which sentences are plain --------------------------------------------------------------------


@pytest.mark.parametrize("text", PRAISE)
def test_praise_is_plain_in_a_good_review_and_not_used_in_a_bad_one(text):
    assert plain(text, 1).positive
    assert list(plain_sentences(text, 0)) == []


@pytest.mark.parametrize("text", SCORN)
def test_scorn_is_plain_in_a_bad_review_and_not_used_in_a_good_one(text):
    assert not plain(text, 0).positive
    assert list(plain_sentences(text, 1)) == []


@pytest.mark.parametrize(
    "text",
    [
        "The acting was not superb.",
        "I didn't think that it is superb.",
        "The acting should have been what was superb.",
        "The acting was superb, but long.",
        "Although long, the acting was superb.",
        "Is it that the acting was superb?",
        "They say the acting used to say it was superb.",
    ],
)
def test_a_sentence_with_a_word_that_turns_is_not_plain(text):
    assert [*plain_sentences(text, 1), *plain_sentences(text, 0)] == []


@pytest.mark.parametrize(
    "text",
    [
        "The acting was superb and the plot great.",
        "It was badly acted, the action was superb.",
        "I loved it and it is my favorite.",
        "The acting was superb, a waste of talent.",
        "I loved it and they hated it.",
        "The story I loved was superb.",
    ],
)
def test_a_sentence_with_two_telling_words_is_not_plain(text):
    assert [*plain_sentences(text, 1), *plain_sentences(text, 0)] == []


@pytest.mark.parametrize(
    "text",
    [
        "A superb film.",  # nothing to negate
        "Superb.",
        "Films like it are shown.",
        "Watching this was a waste of time.",  # it tells, and no rule turns it
        "And the acting was superb.",  # half a sentence
        'He said "it was superb".',  # who knows who says so
        "The acting (it was superb) is long.",
        "It was superb: a film.",
        "... , !",
        "",
    ],
)
def test_a_sentence_that_no_rule_can_edit_is_not_plain(text):
    assert [*plain_sentences(text, 1), *plain_sentences(text, 0)] == []


def test_a_long_sentence_is_not_plain():
    assert plain("The acting was superb" + " in it" * ((LONGEST - 5) // 2) + ".")
    assert list(plain_sentences("The acting was superb" + " in it" * (LONGEST // 2), 1)) == []


def test_each_sentence_of_a_review_is_looked_at():
    text = "It began. The acting was superb! Was it? The music was dull. I loved it."
    found = [said(one.words) for one in plain_sentences(text, 1)]
    assert found == ["the acting was superb .", "i loved it ."]
    assert [said(one.words) for one in plain_sentences(text, 0)] == ["the music was dull ."]


def test_open_marks_go_and_a_mark_of_ten_stays():
    assert said(plain("- the acting was superb !!").words) == "the acting was superb ."
    assert (
        said(plain("The acting was superb in 10/10.").words) == "the acting was superb in 10/10 ."
    )


# --- The edits, by hand ---------------------------------------------------------------------------


def test_not_follows_the_verb_and_loud_words_go():
    one = plain("The acting was really superb.")
    expected = {f"the acting was {word} superb ." for word in NEGATED}
    at_all = {f"the acting was {word} superb at all ." for word in ("n't", "not")}
    assert every(negated, one) == expected | at_all
    assert {"the acting was n't superb .", "the acting was far from superb ."} < expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The plot is quite dull.", "the plot is X quite dull ."),
        ("The film is just dull here.", "the film is X dull here ."),  # "not just dull" is worse
        ("It was always great to me.", "it was X great to me ."),
        ("It was an absolutely great film.", "it was X a great film ."),
        ("It was a truly awful film.", "it was X an awful film ."),
        ("All in all, it was a great one.", "all in all , it was X a great one ."),
        ("Jack and Rose were all great.", "jack and rose were X all great ."),
    ],
)
def test_what_stands_between_the_verb_and_the_word(text, expected):
    one = plain(text)
    assert every(negated, one) == {expected.replace("X", word) for word in NEGATED}


@pytest.mark.parametrize(
    ("text", "denied", "past"),
    [
        ("I loved this film.", "i did n't love this film .", "i used to love this film ."),
        ("I love this film.", "i do n't love this film .", "i used to love this film ."),
        ("They hated it!", "they did n't hate it .", "they used to hate it ."),
        ("We recommend it", "we do n't recommend it .", "we used to recommend it ."),
        ("I regretted it", "i did n't regret it .", "i used to regret it ."),
    ],
)
def test_what_persons_did_they_did_not_or_used_to_do(text, denied, past):
    one = plain(text)
    assert every(negated, one) == {denied}
    assert said(outdated(one)) == past


def test_what_is_so_used_to_be_so():
    assert said(outdated(plain("The acting was really superb."))) == (
        "the acting used to be really superb ."
    )
    assert said(outdated(plain("It is also a great film."))) == "it used to be a great film ."
    assert outdated(plain("There are great scenes in it.")) is None


@pytest.mark.parametrize(
    "text",
    [
        "The leads are great and carry the film.",
        "The leads are great, as is the film.",
        "The film had a message, and was funny.",
        "It has a message and it was funny.",
        "I have ten copies and I love them.",
        "It was so boring that the dog left.",
        "It was so dull it has a name.",
    ],
)
def test_what_says_a_second_thing_stays_as_it_is(text):
    one = plain(text)
    assert every(negated, one) == every(denied, one) == every(rounded, one) == {None}
    assert outdated(one) is None


def test_a_whole_sentence_is_denied():
    assert every(denied, plain("The acting was superb.")) == {
        f"{words} the acting was superb ." for words in DENIED
    }
    assert every(denied, plain("I loved it.")) == {f"{words} i loved it ." for words in DENIED}
    assert every(denied, plain("All in all, it was great.")) == {None}


def test_a_word_of_the_other_side_is_not_deserved():
    good = every(rounded, plain("The acting was superb."))
    assert good & {f"the acting was superb without being {word} ." for word in BAD}
    assert good & {f"the acting was superb and never {word} ." for word in BAD}
    assert not any(text.split()[-2] in GOOD for text in good)
    bad = every(rounded, plain("The plot is dull."))
    assert bad & {f"the plot is dull and not {word} ." for word in GOOD}
    assert not any("without" in text or "but" in text for text in bad)
    assert every(rounded, plain("It was a great film.")) == {None}  # "a great film and never dull"
    assert every(rounded, plain("I loved it.")) == {None}


def test_a_contrast_ends_in_the_verdict_that_counts():
    one, other = plain("The acting was superb!"), plain("- the plot is dull...")
    forms = every(contrasted, other, one)
    a, b = "the plot is dull", "the acting was superb"
    assert forms == {
        f"{a} , but {b} .", f"{a} . however , {b} .", f"although {a} , {b} .",
        f"{b} , even though {a} .", f"{b} , even if {a} .",
        *(f"{first} {a} , {now} {b} ." for first, now in zip(AT_FIRST, NOW, strict=True)),
    }  # fmt: skip


def test_i_am_neither_some_people_nor_others():
    one, other = plain("The plot is dull."), plain("I loved it.")
    forms = every(contrasted, other, one)
    assert any(form.startswith("years ago i loved it") for form in forms)
    assert not any(form.startswith(("some people", "for others")) for form in forms)


# --- The verdicts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positive", "as_it_is", "turned"), [(True, SURE, 1 - SURE), (False, 1 - SURE, TURNED_GOOD)]
)
def test_what_is_not_good_is_bad_and_what_is_not_bad_is_fair(positive, as_it_is, turned):
    one = Plain(("x",), 0, positive)
    assert one.chance() == as_it_is
    assert one.chance(turned=True) == turned


def test_every_text_has_the_verdict_of_its_rule():
    texts, chances = counterfactuals(REVIEWS, LABELS, 3)
    found = dict(zip(texts, chances.tolist(), strict=True))
    for review, label in zip(REVIEWS, LABELS.tolist(), strict=True):
        one = plain(review)
        assert found[said(one.words)] == pytest.approx(SURE if label else 1 - SURE)
        edits = {*every(negated, one), *every(denied, one), said(outdated(one))} & set(found)
        assert edits or not counterfactual._says_one_thing(one.words, one.place)
        for edit in edits:
            assert found[edit] == pytest.approx(1 - SURE if label else TURNED_GOOD), edit
        for more in every(rounded, one) & set(found):
            assert found[more] == pytest.approx(SURE if label else 1 - SURE), more
    contrasts = [text for text in texts if text.startswith("although ") or " , but " in text]
    ends = {said(plain(review).words): label for review, label in zip(REVIEWS, LABELS, strict=True)}
    assert contrasts
    for text in contrasts:
        (label,) = {label for end, label in ends.items() if text.endswith(f" {end}")}
        assert found[text] == pytest.approx(SURE if label else 1 - SURE), text


def test_blame_is_denied_in_two_ways_and_nothing_comes_twice():
    for seed in range(20):
        texts, _ = counterfactuals(["The plot is dull."], np.zeros(1, np.int8), seed)
        assert len(texts) == len(set(texts))
        one = plain("The plot is dull.")
        assert 1 <= len(every(negated, one) & set(texts)) <= 2
        praised, _ = counterfactuals(["The plot is great."], np.ones(1, np.int8), seed)
        assert len(praised) == 5  # itself, negated, denied, as it used to be, and "never dull"


def test_a_label_of_the_other_side_leaves_nothing():
    texts, chances = counterfactuals(REVIEWS, 1 - LABELS, 0)
    assert texts == []
    assert chances.shape == (0,)


def test_both_verdicts_are_about_as_many_as_in_the_reviews():
    _, chances = counterfactuals(REVIEWS, LABELS, 0)
    assert len(chances) > 3 * len(REVIEWS)
    assert 0.4 < float((chances > 0.5).mean()) < 0.6


# --- The texts ------------------------------------------------------------------------------------


def test_a_text_read_again_has_the_words_it_was_made_of():
    made, seen = [], set()
    for seed in range(10):
        made += counterfactuals([*REVIEWS, HARD], np.append(LABELS, 1), seed)[0]
    for text in made:
        assert tokenize(text) == text.split()
        seen |= set(text.split())
    assert {"n't", "never", "hardly", "used", "however", "even"} <= seen
    assert tokenize("was n't")[1] == tokenize("wasn't")[1] == "n't"
    assert tokenize("did n't love") == tokenize("didn't love")


def test_no_text_is_much_longer_than_two_sentences():
    long = " in the old town of a far land by the sea of it" * 2
    filled = [" ".join(f"The {x} was {x}{long}".split()[: LONGEST - 1]) for x in ("superb", "dull")]
    for seed in range(20):
        texts, _ = counterfactuals(filled, np.array([1, 0], np.int8), seed)
        assert texts == [] or max(len(text.split()) for text in texts) <= 2 * LONGEST + 8


def test_the_same_seed_gives_the_same_texts_and_another_gives_others():
    first, chances = counterfactuals(REVIEWS, LABELS, 1)
    again, same = counterfactuals(REVIEWS, LABELS, 1)
    assert again == first
    assert same.tolist() == chances.tolist()
    assert counterfactuals(REVIEWS, LABELS, 2)[0] != first


def test_one_side_alone_has_no_contrasts():
    texts, chances = counterfactuals(PRAISE, np.ones(len(PRAISE), np.int8), 0)
    assert chances.dtype == np.float32
    assert not any(", but" in text or "although" in text or "even" in text for text in texts)
    assert any("used to" in text for text in texts)


@pytest.mark.parametrize("reviews", [[], [""], ["The end.", "..."]])
def test_no_plain_sentence_gives_no_texts(reviews):
    texts, chances = counterfactuals(reviews, np.ones(len(reviews), np.int8), 0)
    assert texts == []
    assert chances.shape == (0,)
    assert chances.dtype == np.float32
