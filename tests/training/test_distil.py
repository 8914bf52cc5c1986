from dataclasses import replace

import numpy as np
import pytest
import torch

from reelsense.errors import BadInput
from reelsense.model.networks import build
from reelsense.model.recipe import Recipe
from reelsense.text.fingerprints import hash_texts, to_npy
from reelsense.text.reviews import Reviews
from reelsense.text.splits import normalised
from reelsense.text.tokenizer import Tokenizer
from reelsense.text.words import tokenize
from reelsense.training import linear
from reelsense.training.checkpoint import (
    STARTING_WEIGHTS,
    open_run,
    save_tensors,
    weights_hash,
)
from reelsense.training.counterfactual import counterfactuals
from reelsense.training.distil import (
    FILE,
    Teacher,
    make_lessons,
    read_teacher,
    soft_labels,
    teach,
)
from reelsense.training.machine import Machine
from reelsense.training.prepare import prepare
from reelsense.training.start import STARTED_FROM

MACHINE = Machine(torch.device("cpu"), 1, False)
SAID = {1: ("superb", "fun"), 0: ("dull", "boring")}


def reviews_of(n=60, name="n", source="toy reviews"):
    """Reviews of three sentences, each with the review's own word in it."""
    labels = (np.arange(n) % 2).astype(np.int8)
    texts = tuple(
        f"The film {name}{row} was {SAID[int(label)][row // 2 % 2]}. We saw {name}{row} at home. "
        f"It has a plot{' and music' * (row % 5)} {name}{row}."
        for row, label in enumerate(labels)
    )
    ids = tuple(f"row {row + 1}" for row in range(n))
    return Reviews(ids, texts, labels, np.full(n, -1), ("",) * n, source)


REVIEWS = reviews_of()
UNLABELLED = replace(reviews_of(20, "u", "more"), labels=np.full(20, -1, np.int8))


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """The recipe of a student."""
    path = tmp_path_factory.mktemp("vectors") / "toy.txt"
    path.write_text("film 0.1 0.2 0.3\nsuperb 0.4 0.5 0.6\ndull -0.4 0.1 0.2\n")
    return Recipe(
        name="student", embedding=str(path), hidden=3, min_count=1, validation=0.2, test=0.2,
        epochs=2, unlabelled_share=0.5, sentence_share=0.75, counterfactual_share=0.25, seed=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def prepared(student):
    return prepare(student, REVIEWS)


class Stub:
    """A network whose logit grows with the length of what it reads."""

    def __init__(self, slope, level):
        self.slope, self.level = slope, level

    def to(self, device):
        return self

    def __call__(self, ids, lengths):
        return self.slope * lengths + self.level


class Silent(Stub):
    def __call__(self, ids, lengths):
        raise AssertionError("was asked")


def teachers_of(prepared, kind=Stub):
    """Two that differ in everything: words, how much they read, what they answer."""
    few = Tokenizer.fit(["film plot music dull superb fun boring"], min_count=1, cleanup="classic")
    return [
        Teacher(Recipe(), prepared.tokenizer, kind(0.05, -1.0), "a"),
        Teacher(Recipe(max_tokens=3, cleanup="classic"), few, kind(-0.4, 2.0), "b"),
    ]


def mean_logits(prepared, texts):
    """What those two answer together, by hand."""
    first, second = (teacher.tokenizer for teacher in teachers_of(prepared))
    a = np.array([0.05 * len(first.encode(text)) - 1 for text in texts])
    b = np.array([-0.4 * min(3, len(second.encode(text))) + 2 for text in texts])
    assert len(set(a)) > 2
    return (a + b) / 2


def sigmoid(scores):
    return 1 / (1 + np.exp(-scores))


def learn(student, prepared, run, kind=Stub, say=lambda line: None):
    lessons = make_lessons(student, prepared, [UNLABELLED])
    teachers = teachers_of(prepared, kind)
    return soft_labels(student, prepared, lessons, teachers, MACHINE, run, say)


def texts_of(prepared, examples):
    """What stands in some examples, as words."""
    words = prepared.tokenizer.vocabulary
    return [" ".join(words[number] for number in row) for row in examples.ids]


# --- What the teachers say ------------------------------------------------------------------------


def test_a_soft_label_is_the_sigmoid_of_the_mean_of_the_teachers_logits(student, prepared):
    training = REVIEWS.take(prepared.split.train)
    whole, pieces = [*training.texts, "Nothing known"], ["dull", "superb fun", "A film with music."]
    lines = []
    answers = teach(student, training, whole, pieces, teachers_of(prepared), MACHINE, lines.append)
    assert answers["whole"] == pytest.approx(sigmoid(mean_logits(prepared, whole)), abs=1e-6)
    assert answers["pieces"] == pytest.approx(sigmoid(mean_logits(prepared, pieces)), abs=1e-6)
    assert {value.dtype for value in answers.values()} == {np.dtype(np.float32)}
    assert lines == [
        f"Teacher {number} of 2 reads {n} {kind} ..."
        for number in (1, 2)
        for n, kind in ((len(whole), "reviews"), (3, "sentences"))
    ]


def test_the_linear_baseline_has_its_share_in_whole_reviews_alone(student, prepared):
    training = REVIEWS.take(prepared.split.train)
    whole, pieces = [*training.texts, *UNLABELLED.texts], ["a superb film", "dull"]
    asked = (training, whole, pieces, teachers_of(prepared), MACHINE, lambda line: None)
    without = teach(student, *asked)
    answers = teach(student.changed(linear_share=0.25), *asked)
    model = linear.fit_linear([tokenize(text) for text in training.texts], training.labels)
    chance = model.probabilities(tokenize(text) for text in whole)
    expected = 0.75 * mean_logits(prepared, whole) + 0.25 * np.log(chance / (1 - chance))
    assert answers["whole"] == pytest.approx(sigmoid(expected), abs=1e-6)
    assert np.abs(answers["whole"] - without["whole"]).max() > 0.01
    assert (answers["pieces"] == without["pieces"]).all()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_labels_and_what_the_teachers_say_are_mixed(student, prepared, tmp_path, share):
    training, _ = learn(student.changed(soft_share=share), prepared, tmp_path)
    own = REVIEWS.take(prepared.split.train)
    said = sigmoid(mean_logits(prepared, own.texts))
    assert training.labels == pytest.approx((1 - share) * own.labels + share * said, abs=1e-6)
    assert training.labels.dtype == np.float32
    plain = prepared.examples(student, "train")
    assert all((a == b).all() for a, b in zip(training.ids, plain.ids, strict=True))


def test_the_pools_are_unlabelled_reviews_sentences_and_edits(student, prepared, tmp_path):
    n = len(prepared.split.train)
    _, (more, sentences, edited) = learn(student, prepared, tmp_path)
    assert [pool.a_pass for pool in (more, sentences, edited)] == [
        round(share * n) for share in (0.5, 0.75, 0.25)
    ]
    words = {" ".join(tokenize(text)) for text in UNLABELLED.texts}
    assert len(more.examples) == 20
    assert len(words) == 20
    said = sigmoid(mean_logits(prepared, UNLABELLED.texts))
    assert more.examples.labels == pytest.approx(said, abs=1e-6)
    assert len(sentences.examples) <= 2 * sentences.a_pass  # what two epochs draw
    assert set(sentences.examples.labels) != {0.0, 1.0}
    own = REVIEWS.take(prepared.split.train)
    assert (edited.examples.labels == counterfactuals(own.texts, own.labels, student.seed)[1]).all()


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_stretch_is_taught_with_the_verdict_of_its_review(student, prepared, tmp_path, share):
    recipe = student.changed(soft_share=share)
    lessons = make_lessons(recipe, prepared, [UNLABELLED])
    for text, owner in zip(lessons.pieces, lessons.owners, strict=True):
        assert text in lessons.whole[owner]
    n = len(prepared.split.train)
    assert lessons.owners.min() < n <= lessons.owners.max()  # stretches of both kinds of reviews
    training, (more, sentences, _) = learn(recipe, prepared, tmp_path)
    verdicts = np.append(training.labels, more.examples.labels)
    said = sigmoid(mean_logits(prepared, lessons.pieces))
    expected = (1 - share) * verdicts[lessons.owners] + share * said
    assert sentences.examples.labels == pytest.approx(expected, abs=1e-6)
    assert sentences.examples.labels.dtype == np.float32


@pytest.mark.parametrize("verdict", [0, 1])
def test_sentences_of_reviews_without_a_label_are_edited_where_the_teachers_are_sure(
    student, prepared, tmp_path, verdict
):
    class Sure(Stub):
        def __call__(self, ids, lengths):
            return torch.full(lengths.shape, 9.0 if verdict else -9.0)

    _, (*_, edited) = learn(student, prepared, tmp_path, Sure)
    own = REVIEWS.take(prepared.split.train)
    labels = np.append(own.labels, np.full(20, verdict, np.int8))
    texts, chances = counterfactuals([*own.texts, *UNLABELLED.texts], labels, student.seed)
    for ids, text in zip(edited.examples.ids, texts, strict=True):
        assert (ids == prepared.tokenizer.encode(text)).all()
    assert edited.examples.labels == pytest.approx(chances)
    assert len(texts) > len(counterfactuals(own.texts, own.labels, student.seed)[0])
    assert edited.a_pass == round(0.25 * len(own))


def test_a_recipe_may_do_without_pools(student, prepared, tmp_path):
    plain = student.changed(unlabelled_share=0.0, sentence_share=0.0, counterfactual_share=0.0)
    training, pools = learn(plain, prepared, tmp_path)
    assert (len(training), pools) == (len(prepared.split.train), [])


# --- What is held out -----------------------------------------------------------------------------


def test_nothing_of_what_is_held_out_is_learned(student, prepared):
    held_out = [*prepared.split.validation, *prepared.split.test]
    assert len(held_out) == 24
    copies = [REVIEWS.texts[row].upper().replace(" ", "  ") for row in held_out]
    again = [REVIEWS.texts[row] for row in prepared.split.train[:2]]
    more = Reviews(
        tuple(f"copy {n}" for n in range(28)), (*copies, *again, *UNLABELLED.texts[:2]),
        np.full(28, -1, np.int8), np.full(28, -1), ("",) * 28, "copies",
    )  # fmt: skip
    many = student.changed(sentence_share=9.0)
    lessons = make_lessons(many, prepared, [more, UNLABELLED])
    secret = {f"n{row}" for row in held_out}
    for texts in (lessons.whole, lessons.pieces):
        assert not secret & {word for text in texts for word in tokenize(text)}
    n = len(prepared.split.train)
    assert lessons.whole == [*REVIEWS.take(prepared.split.train).texts, *UNLABELLED.texts]
    assert len(lessons.pieces) > n  # of every text, then
    assert not secret & set(prepared.tokenizer.vocabulary)


def test_the_lessons_are_the_same_again(student, prepared):
    first, second = (make_lessons(student, prepared, [UNLABELLED]) for _ in range(2))
    other = make_lessons(student.changed(seed=4), prepared, [UNLABELLED])
    assert (first.whole, first.pieces) == (second.whole, second.pieces)
    assert (first.owners == second.owners).all()
    assert first.whole == other.whole
    assert first.pieces != other.pieces


def test_reviews_without_a_label_that_the_recipe_needs_must_be_there(student, prepared):
    copies = replace(REVIEWS, labels=np.full(len(REVIEWS), -1, np.int8))
    for unlabelled in ([], [copies]):
        with pytest.raises(BadInput, match=r"--unlabelled-share 0\.5 needs reviews without labels"):
            make_lessons(student, prepared, unlabelled)


def test_plain_sentences_that_the_recipe_needs_must_be_there(student, prepared):
    none = replace(REVIEWS, texts=tuple(f"w{row} and more" for row in range(len(REVIEWS))))
    changed = student.changed(unlabelled_share=0.0)
    with pytest.raises(BadInput, match=r"--counterfactual-share 0\.25: no sentence"):
        make_lessons(changed, replace(prepared, reviews=none), [])


# --- Kept in the run ------------------------------------------------------------------------------


def test_what_the_teachers_said_is_kept_and_read_again(student, prepared, tmp_path):
    training, pools = learn(student, prepared, tmp_path)
    lines = []
    again, pools_again = learn(student, prepared, tmp_path, Silent, lines.append)
    assert lines == []
    assert (training.labels == again.labels).all()
    for one, other in zip(pools, pools_again, strict=True):
        assert (one.examples.labels == other.examples.labels).all()
        assert texts_of(prepared, one.examples) == texts_of(prepared, other.examples)


@pytest.mark.parametrize("tensors", [{"whole": 7, "pieces": 3}, {"whole": 56}])
def test_kept_soft_labels_that_do_not_fit_are_refused(student, prepared, tmp_path, tensors):
    wrong = {name: torch.zeros(size) for name, size in tensors.items()}
    save_tensors(tmp_path / FILE, wrong, {})
    with pytest.raises(BadInput, match=rf"{FILE}: is of other reviews; delete the run folder"):
        learn(student, prepared, tmp_path, Silent)


def test_kept_soft_labels_that_are_damaged_are_refused(student, prepared, tmp_path):
    (tmp_path / FILE).write_bytes(b"half of it")
    with pytest.raises(BadInput, match=rf"{FILE}: damaged"):
        learn(student, prepared, tmp_path, Silent)


# --- Teachers -------------------------------------------------------------------------------------


def write_teacher(run, student, hashes=None, **changes):
    """Write a finished run of the student's reviews and split, with random weights."""
    recipe = Recipe(
        name="teacher", hidden=4, dense=2, validation=student.validation, test=student.test
    ).changed(**changes)
    tokenizer = Tokenizer.fit(["words of its own , superb or dull"], min_count=1)
    words = len(tokenizer.vocabulary)
    vectors = np.random.default_rng(0).normal(size=(words, 6)).astype(np.float32)
    network = build(recipe, vectors, np.arange(words) > 1)
    open_run(run, recipe, {}, {"reviews": REVIEWS.sha256, **(hashes or {})}, resume=False)
    tokenizer.save(run / "tokenizer.json")
    weights = network.state_dict()
    save_tensors(run / "weights.safetensors", weights, {"sha256": weights_hash(weights)})
    return network


def test_a_teacher_is_the_network_of_its_run_with_words_of_its_own(student, prepared, tmp_path):
    network = write_teacher(tmp_path / "run", student)
    teacher = read_teacher(tmp_path / "run", student, prepared)
    assert teacher.sha256 == weights_hash(network.state_dict())
    assert teacher.tokenizer.vocabulary != prepared.tokenizer.vocabulary
    ids = torch.from_numpy(teacher.tokenizer.encode("superb or dull")).long()[None]
    lengths = torch.tensor([3])
    assert torch.equal(teacher.network(ids, lengths), network(ids, lengths))


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("split_seed", 1234567, 0),
        ("validation", 0.25, 0.2),
        ("test", 0.0, 0.2),
    ],
)
def test_a_teacher_of_another_split_is_refused(student, prepared, tmp_path, name, theirs, ours):
    write_teacher(tmp_path / "run", student, **{name: theirs})
    option = "--" + name.replace("_", "-")
    with pytest.raises(BadInput) as caught:
        read_teacher(tmp_path / "run", student, prepared)
    assert str(caught.value) == (
        f"{tmp_path / 'run'}: was trained with {option} {theirs}, the student is with {ours}; "
        "a teacher must hold out the same reviews"
    )


def test_a_student_that_holds_nothing_out_may_have_a_teacher_of_any_split(student, tmp_path):
    write_teacher(tmp_path / "run", student, split_seed=1234567, test=0.0)
    everything = student.changed(validation=0.0, test=0.0)
    teacher = read_teacher(tmp_path / "run", everything, prepare(everything, REVIEWS))
    assert teacher.recipe.split_seed == 1234567


def test_a_teacher_of_other_reviews_is_refused(student, prepared, tmp_path):
    write_teacher(tmp_path / "run", student, {"reviews": "those of another"})
    with pytest.raises(BadInput, match="run: was trained on other reviews than toy reviews; name"):
        read_teacher(tmp_path / "run", student, prepared)


def test_a_teacher_that_has_not_finished_is_refused(student, prepared, tmp_path):
    write_teacher(tmp_path / "run", student)
    (tmp_path / "run" / "weights.safetensors").unlink()
    with pytest.raises(BadInput, match="run: has no weights yet; finish it"):
        read_teacher(tmp_path / "run", student, prepared)
    with pytest.raises(BadInput, match="nowhere: not the folder of a run"):
        read_teacher(tmp_path / "nowhere", student, prepared)


def test_a_teacher_whose_start_knew_what_the_student_holds_out_is_refused(
    student, prepared, tmp_path
):
    run = tmp_path / "run"
    write_teacher(run, student, {STARTING_WEIGHTS: "of a bundle"})
    train, test = (
        [normalised(REVIEWS.texts[row]) for row in rows[:5]]
        for rows in (prepared.split.train, prepared.split.test)
    )
    (run / STARTED_FROM).write_bytes(to_npy(hash_texts(train)))
    read_teacher(run, student, prepared)
    (run / STARTED_FROM).write_bytes(to_npy(hash_texts([*train, *test])))
    with pytest.raises(
        BadInput, match="run: started from weights that had learned from 5 of the 24"
    ):
        read_teacher(run, student, prepared)
