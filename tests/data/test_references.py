"""Lists of sentences as one text, and several references for one source."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from conftest import predictions, write_rows
from hydratune.data import LocalFiles
from hydratune.tasks.regression import Regression
from hydratune.tasks.seq2seq import Seq2Seq
from hydratune.tasks.sequence_classification import SequenceClassification
from hydratune.utils.errors import ConfigError

METRICS = ["rouge1", "rougeL", "bleu", "chrf", "exact_match"]
REFERENCES = [
    ["the cat sat on the mat", "a cat is on the mat"],
    ["dogs bark"],
    ["so it goes", "it goes on", "and so on"],
]
PREDICTED = ["a cat is on the mat", "dogs bark loudly", "on it goes"]


def decoded(references, predicted=PREDICTED):
    """Rows of predictions.jsonl."""
    return [{"label": true, "prediction": said} for true, said in zip(references, predicted, strict=True)]


def test_several_references_are_scored_as_upstream_does():
    """ROUGE takes the best one of a row, sacrebleu takes all, an exact match is one of any."""
    from rouge_score.rouge_scorer import RougeScorer
    from sacrebleu.metrics import BLEU, CHRF

    scores = Seq2Seq(metrics=METRICS).metrics_from_predictions(decoded(REFERENCES), ())
    padded = [[row[i] if i < len(row) else None for row in REFERENCES] for i in range(3)]
    assert scores["bleu"] == pytest.approx(BLEU().corpus_score(PREDICTED, padded).score)
    assert scores["chrf"] == pytest.approx(CHRF().corpus_score(PREDICTED, padded).score)
    assert scores["exact_match"] == pytest.approx(1 / 3)
    for kind in ("rouge1", "rougeL"):
        scorer = RougeScorer([kind])
        best = [
            max(scorer.score(reference, said)[kind].fmeasure for reference in row)
            for row, said in zip(REFERENCES, PREDICTED, strict=True)
        ]
        assert scores[kind] == pytest.approx(sum(best) / 3)


def test_one_reference_in_a_list_is_a_text():
    """Both score the same."""
    texts = [row[0] for row in REFERENCES]
    task = Seq2Seq(metrics=METRICS)
    assert task.metrics_from_predictions(decoded([[text] for text in texts]), ()) == task.metrics_from_predictions(
        decoded(texts), ()
    )


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_resamples_score_all_references(metric):
    """Counts that are made once give the score of the rows."""
    task, rows = Seq2Seq(metrics=[metric]), decoded(REFERENCES)
    score = task.bootstrap_metric(metric, rows, ())
    assert score([0, 2]) == pytest.approx(task.metrics_from_predictions([rows[0], rows[2]], ())[metric])
    assert task.row_contributions(rows[0], ()) == {}


@pytest.mark.parametrize("value", [[], ["x", " "], ["x", None], None])
def test_references_that_are_invalid(value):
    """No reference, and a blank one, are bad rows."""
    rows = Dataset.from_list([{"source": "a", "target": ["x", "y"]}, {"source": "a", "target": value}])
    assert [(one.row, one.column) for one in Seq2Seq().bad_rows(DatasetDict(train=rows), None)] == [(1, "target")]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_references_that_are_texts_and_lists_become_lists(several, streaming):
    """Rows of one split may have one reference or several, in one file and in two."""
    rows = [{"source": "a", "target": "b"}, {"source": "c", "target": ["d", "e"]}, {"source": "f", "target": "g"}]
    parts = [rows[:1], rows[1:]] if several else [rows]
    names = [str(write_rows(Path(f"{i}.jsonl"), part)) for i, part in enumerate(parts)]
    source = LocalFiles(files={"train": names, "validation": names}, streaming=streaming)
    train = source.load(Seq2Seq())["train"]
    assert sorted(row["target"] for row in train) == [["b"], ["d", "e"], ["g"]]


@pytest.mark.parametrize("value", [3, {"a": 1}])
def test_references_of_another_type_name_their_line(value):
    """Texts and lists may be mixed; numbers and objects are invalid."""
    rows = [{"source": "a", "target": "b"}, {"source": "a", "target": ["b"]}, {"source": "c", "target": value}]
    with pytest.raises(ConfigError) as caught:
        LocalFiles(files={"train": str(write_rows(Path("a.jsonl"), rows))}).load(Seq2Seq())
    assert caught.value.problems[0].source == "a.jsonl:3"


def test_sentences_are_joined(caplog):
    """Each list of texts becomes one text with spaces, wherever a task reads a text; the log says so once."""
    caplog.set_level("INFO")
    rows = [{"text": ["good film .", "very good ."], "text_pair": ["a"], "label": i % 2} for i in range(4)]
    write_rows(Path("a.jsonl"), rows)
    for task in (SequenceClassification(), Regression()):
        caplog.clear()
        splits = LocalFiles(files={"train": "a.jsonl", "validation": "a.jsonl"}).load(task)
        assert splits["train"][0] == {"text": "good film . very good .", "text_pair": "a", "label": 0}
        assert sum("joined" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("streaming", [False, True])
def test_texts_and_lists_of_sentences_in_one_column(streaming):
    """A text is that of its row, and a list is joined."""
    texts = ["one .", ["two .", "three ."], "four ."]
    write_rows(Path("a.jsonl"), [{"text": text, "label": i} for i, text in enumerate(texts)])
    source = LocalFiles(files={"train": "a.jsonl", "validation": "a.jsonl"}, streaming=streaming, shuffle_buffer_size=1)
    rows = source.load(Regression())["train"]
    assert sorted(row["text"] for row in rows) == ["four .", "one .", "two . three ."]


@pytest.mark.parametrize("value", [[], ["x", None], [" "]])
def test_sentences_that_are_missing(value):
    """An empty list and one with a hole are bad rows, with their line."""
    write_rows(Path("a.jsonl"), [{"text": text, "label": i} for i, text in enumerate((["x"], ["y"], value))])
    with pytest.raises(ConfigError) as error:
        LocalFiles(files={"train": "a.jsonl", "validation": "a.jsonl"}).load(SequenceClassification())
    assert error.value.problems[0].source == "a.jsonl:3"


def test_lists_stay_lists_where_a_task_reads_lists():
    """Words of a sentence and choices are not joined."""
    from hydratune.tasks.multiple_choice import MultipleChoice

    write_rows(Path("a.jsonl"), [{"text": ["x", "y"], "choices": ["a", "b"], "label": i % 2} for i in range(4)])
    rows = LocalFiles(files={"train": "a.jsonl", "validation": "a.jsonl"}).load(MultipleChoice())["train"]
    assert rows[0] == {"text": "x y", "choices": ["a", "b"], "label": 0}


def test_a_stream_of_sentences():
    """They are joined while the rows are read."""
    write_rows(Path("a.jsonl"), [{"source": ["a", "b"], "target": ["x", "y"]} for _ in range(3)])
    source = LocalFiles(files={"train": "a.jsonl", "validation": "a.jsonl"}, streaming=True)
    assert next(iter(source.load(Seq2Seq())["train"])) == {"source": "a b", "target": ["x", "y"]}


def test_a_run_on_sentences_and_references(train, own_directory, tiny_model):
    """The command line needs only the files; predictions have all references, and new rows are joined too."""
    rows = [
        {"source": ["good film .", f"very {word} ."], "target": [f"a {word} film", word][: 1 + i % 2], "id": i}
        for i, word in enumerate(["good", "bad", "great", "awful"] * 3)
    ]
    for split in ("train", "validation", "test"):
        write_rows(own_directory / f"{split}.jsonl", rows)
    files = [f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test")]
    model = ["model=minilm_seq2seq", f"model.encoder={tiny_model}", "hardware=cpu", "hardware.threads=1"]
    task = ["task=seq2seq", "task.max_target_length=8", "task.metrics=[rougeL,bleu]"]
    result = train("dataset=local", *task, *files, *model, "trainer.args.max_steps=2")
    assert [row["label"] for row in predictions(result)] == [row["target"] for row in rows]
    again = Seq2Seq(metrics=["rougeL"]).metrics_from_predictions(predictions(result), ())
    assert result.metrics["test_rougeL"] == pytest.approx(again["rougeL"])
    from hydratune.evaluation.predict import PredictRequest, predict

    write_rows(own_directory / "new.jsonl", [{"source": ["a film .", "so good ."]}])
    predict(PredictRequest(str(result.directory), own_directory / "new.jsonl", out=own_directory / "out.jsonl"))
    assert json.loads((own_directory / "out.jsonl").read_text())["prediction"] is not None


def test_columns_of_references_may_have_gaps():
    """A row has as many references as it has cells with a text; a row without any is invalid."""
    Path("a.csv").write_text("source,one,two\na,x,y\nb,z,\nc,,\nd,,w\n")
    source = LocalFiles(
        files={"train": "a.csv", "validation": "a.csv"}, columns={"target": ["one", "two"]}, on_bad_rows="skip"
    )
    rows = source.load(Seq2Seq())["train"]
    assert rows["target"][:] == [["x", "y"], ["z"], ["w"]]
    assert [bad.where for bad in source.dropped.before if bad.split == "train"] == ["a.csv:4"]
