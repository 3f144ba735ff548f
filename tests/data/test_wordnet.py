"""The rows that are made of WordNet: always the same ones, true, and of one split alone."""

import functools
from collections import Counter, defaultdict

import pytest

from hydratune import data as exports
from hydratune.data.builtin.wordnet.database import read_synsets
from hydratune.data.builtin.wordnet.examples import WORD, bases, usages
from hydratune.data.builtin.wordnet.glosses import IT_IS
from hydratune.data.builtin.wordnet.relations import wu_palmer
from hydratune.data.cache import content_hash

# Name of the dataset -> rows of its splits and the start of the hash of its test split.
KNOWN = {
    "WordnetAncestors": (5000, 500, 1000, "18850eff3ff10f2b"),
    "WordnetChat": (8000, 500, 1000, "281ee5d6642563a9"),
    "WordnetChoices": (2000, 200, 400, "66870928938b8d6a"),
    "WordnetGlosses": (20000, 1000, 1000, "3017cb6ceff114ee"),
    "WordnetKinds": (12000, 500, 1000, "0fe3c57b5d9414c8"),
    "WordnetPairs": (8000, 600, 1000, "e8acfe28a3ff4812"),
    "WordnetSimilarity": (5000, 500, 1000, "3689343588299921"),
    "WordnetSpans": (3000, 300, 500, "2f8469e8e31bdece"),
    "WordnetStates": (3000, 1500, 3000, "07e6ddc1c37b617b"),
    "WordnetSupersense": (5280, 660, 660, "191a4cc981d9d991"),
    "WordnetTags": (5000, 500, 1000, "0179833c72304682"),
}


@functools.cache
def splits_of(name):
    """The splits as they are read."""
    return getattr(exports, name)().read().splits


@functools.cache
def nouns():
    """Id of a noun -> its synset."""
    return {synset.offset: synset for synset in read_synsets(["noun"])}


def rows_of(name):
    """The rows of all splits."""
    return [row for rows in splits_of(name).values() for row in rows]


def texts(value):
    """Every text in a value, whole."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from texts(one)


def test_every_dataset_is_known():
    """A new one has its rows pinned here."""
    assert sorted(KNOWN) == [name for name in exports.__all__ if name.startswith("Wordnet")]


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_the_same_rows_everywhere(name):
    """The rows are pinned: counts of all splits, content of test."""
    *counts, known = KNOWN[name]
    splits = splits_of(name)
    assert [len(splits[split]) for split in ("train", "validation", "test")] == counts
    assert content_hash(splits["test"])[:16] == known


@pytest.mark.parametrize("name", KNOWN)
def test_no_text_is_in_two_splits(name):
    """What a model has read in training it does not meet in evaluation, in no column."""
    columns = {"text", "text_pair", "choices", "question", "context", "prompt", "source"}
    seen = {}
    for split, rows in splits_of(name).items():
        if name == "WordnetTags":
            own = {" ".join(tokens) for tokens in rows["tokens"]}
        else:
            own = {text for column in columns & set(rows.column_names) for text in texts(list(rows[column]))}
        assert own
        assert not [other for other, known in seen.items() if known & own]
        seen[split] = own


def test_no_synset_is_in_two_splits():
    """Nor does any gloss or example occur in two."""
    splits = exports.WordnetGlosses().deal()
    for field in (lambda one: [one.id], lambda one: [one.gloss.lower()], lambda one: map(str.lower, one.examples)):
        sets = [{value for synset in synsets for value in field(synset)} for synsets in splits.values()]
        assert sum(map(len, sets)) == len(set().union(*sets))


def test_classes_are_balanced():
    """22 supersenses of 240/30/30 glosses."""
    for split, count in {"train": 240, "validation": 30, "test": 30}.items():
        labels = Counter(splits_of("WordnetSupersense")[split]["label"])
        assert set(labels.values()) == {count} and len(labels) == 22


def test_what_a_dog_is_a_kind_of():
    """The word is that of the first synset above; the topmost has none."""
    (row,) = exports.WordnetKinds().make([nouns()["02084071"]])
    assert row["target"] == "canine"
    assert not list(exports.WordnetKinds().make([nouns()["00001740"]]))


def test_either_side_of_a_pair_says_nothing():
    """Each sentence and each gloss is as often in a match as not."""
    for rows in splits_of("WordnetPairs").values():
        for side in ("text", "text_pair"):
            labels = defaultdict(Counter)
            for row in rows:
                labels[row[side]][row["label"]] += 1
            assert all(counts["match"] == counts["other"] > 0 for counts in labels.values())


@pytest.mark.slow
def test_a_match_is_the_meaning():
    """A word in a sentence and a gloss match where WordNet lists both under one synset."""
    glosses = {(one.lemma, one.example): synset.gloss for synset in read_synsets() for one in usages(synset)}
    for row in rows_of("WordnetPairs"):
        lemma, _, example = row["text"].partition(": ")
        assert (glosses[lemma, example] == row["text_pair"]) == (row["label"] == "match")


def test_choices_alone_say_nothing():
    """Each gloss is right once and wrong three times."""
    for rows in splits_of("WordnetChoices").values():
        right = Counter(row["choices"][row["label"]] for row in rows)
        shown = Counter(choice for row in rows for choice in row["choices"])
        assert set(right.values()) == {1} and set(shown.values()) == {4} and len(right) == len(shown) == len(rows)


def test_ancestors_of_a_dog():
    """They are true, and nothing that is false is among them."""
    (row,) = exports.WordnetAncestors().make([nouns()["02084071"]])
    assert row["text"].startswith("a member of the genus Canis")
    assert row["labels"] == ["living thing", "animal", "vertebrate"]


def test_an_ancestor_is_not_its_own():
    """The gloss of animal is not labelled animal."""
    (row,) = exports.WordnetAncestors().make([nouns()["00015388"]])
    assert row["labels"] == ["living thing"]


@pytest.mark.parametrize(("other", "similarity"), [("02121620", 0.857142857142857), ("02084071", 1.0)])
def test_similarity_of_a_dog(other, similarity):
    """Dog and cat are as near as in the documentation of NLTK, a dog is a dog."""
    assert wu_palmer(nouns()["02084071"], nouns()[other]) == pytest.approx(similarity, abs=1e-12)


def test_similarities_spread():
    """Each tenth of the scale has 2 to 20% of the rows of every split."""
    for rows in splits_of("WordnetSimilarity").values():
        shares = Counter(min(int(10 * label), 9) for label in rows["label"])
        assert all(0.02 < shares[tenth] / len(rows) < 0.2 for tenth in range(10))


@pytest.mark.slow
@pytest.mark.parametrize("no_answer", [0.0, 0.3])
def test_spans_are_in_the_context(no_answer):
    """An answer is where it is said to be; the share without one is about what was asked for."""
    splits = exports.WordnetSpans(no_answer=no_answer).read().splits
    rows = [row for rows in splits.values() for row in rows]
    for row in rows:
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert text and row["context"][start : start + len(text)] == text
    without = sum(not row["answers"]["text"] for row in rows)
    assert without / len(rows) == pytest.approx(no_answer, abs=0.02)


def test_some_contexts_are_long():
    """Between 5 and 15% of them are over 128 words, so that windows are needed; the others are short."""
    contexts = splits_of("WordnetSpans")["train"]["context"]
    long = sum(len(WORD.findall(context)) > 128 for context in contexts)
    assert 0.05 < long / len(contexts) < 0.15


def test_a_share_of_one_is_no_share():
    """Rows that all have no answer cannot be learned from."""
    (problem,) = exports.WordnetSpans(no_answer=1).check()
    assert (problem.key, problem.text.split()[-1]) == ("no_answer", "1")


def test_tags_align():
    """A tag a token, and one span a row, which is in the sentence and not in the gloss."""
    for row in rows_of("WordnetTags"):
        tags = row["labels"]
        assert len(tags) == len(row["tokens"])
        first = next(i for i, tag in enumerate(tags) if tag != "O")
        span = [tag for tag in tags if tag != "O"]
        pos = span[0][2:]
        assert span == [f"B-{pos}", *[f"I-{pos}"] * (len(span) - 1)] == tags[first : first + len(span)]
        assert ":" in row["tokens"][:first]


@pytest.mark.parametrize(
    ("form", "part", "base"),
    [
        ("bore", "verb", "bear"),
        ("dogs", "noun", "dog"),
        ("stopped", "verb", "stop"),
        ("making", "verb", "make"),
        ("tries", "verb", "try"),
        ("geese", "noun", "goose"),
        ("best", "adj", "good"),
        ("larger", "adj", "large"),
        ("dog", "noun", "dog"),
    ],
)
def test_inflected_forms(form, part, base):
    """Regular and irregular forms lead to their word."""
    assert base in bases(form, part)


def test_adjectives_have_no_markers():
    """Where an adjective may stand, e.g. `afraid(p)`, is no part of the word."""
    assert not [lemma for synset in read_synsets(["adj"]) for lemma in synset.lemmas if "(" in lemma]


def test_every_class_has_its_words():
    """The chat has an answer for each of the 22 supersenses, and no two answer alike."""
    named = splits_of("WordnetSupersense")["train"].features["label"].names
    assert sorted(IT_IS) == named
    assert len(set(splits_of("WordnetChat")["train"]["completion"])) == len(named)
