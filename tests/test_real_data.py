"""Real data that is no part of the project; skipped where it is absent."""

import math
from collections import Counter
from pathlib import Path

import pytest

from hydratune.data import LocalFiles
from hydratune.tasks.question_answering import QuestionAnswering

DATA = Path(__file__).parents[2] / "shared" / "data"
MRPC, WNUT = DATA / "mrpc", DATA / "wnut17"
XQUAD, SHAKESPEARE = DATA / "xquad" / "xquad.en.json", DATA / "tinyshakespeare.txt"


@pytest.mark.slow
@pytest.mark.skipif(not MRPC.is_dir(), reason=f"needs {MRPC}")
def test_pairs_of_mrpc(train):
    """MRPC's own files and the demo model, by yaml and command line alone: pairs, label names, test accuracy and F1."""
    files = [f"dataset.files.{split}={MRPC / split}.jsonl" for split in ("train", "validation", "test")]
    columns = ["dataset.columns.text=sentence1", "dataset.columns.text_pair=sentence2"]
    names = "dataset.labels=[not_equivalent,equivalent]"
    limits = ["dataset.max_samples.validation=64", "dataset.max_samples.test=128", "trainer.args.max_steps=5"]
    result = train("dataset=local", *files, *columns, names, *limits)
    assert {"test_accuracy", "test_f1"} <= set(result.metrics)
    assert result.metrics["test_accuracy"] > 0.5
    assert '"equivalent"' in (result.directory / "predictions.jsonl").read_text()


FEW = ["hardware.threads=2", "dataset.max_samples.validation=64", "dataset.max_samples.test=64"]


@pytest.mark.slow
@pytest.mark.skipif(not WNUT.is_dir(), reason="the data is not on this machine")
def test_wnut(train):
    """WNUT 17's own CoNLL files, also one with an odd ending: six types of entities are scored."""
    names = {"train": "wnut17train.conll", "validation": "emerging.dev.conll", "test": "emerging.test.annotated"}
    files = [f"dataset.files.{split}={WNUT / name}" for split, name in names.items()]
    result = train(
        "dataset=local", "task=token_classification", "dataset.format=conll", *files, *FEW, "trainer.args.max_steps=5"
    )
    types = {"corporation", "creative-work", "group", "location", "person", "product"}
    assert {f"eval_f1_{kind}" for kind in types} <= set(result.metrics)


@pytest.mark.slow
@pytest.mark.skipif(not XQUAD.is_file(), reason="the data is not on this machine")
def test_xquad(train):
    """SQuAD's json as it is, split by paragraph: no context is in two splits."""
    options = [
        "dataset.format=squad",
        "dataset.group_by_column=context",
        "dataset.test_size=0.2",
        "task.max_length=128",
        "task.doc_stride=32",
    ]
    files = [f"dataset.files.train={XQUAD}", "dataset.max_samples.train=64", "trainer.args.max_steps=3"]
    result = train("dataset=local", "task=question_answering", *options, *files, *FEW)
    assert {"test_f1", "test_exact_match"} <= set(result.metrics)
    source = LocalFiles(files={"train": str(XQUAD)}, format="squad", group_by_column="context", test_size=0.2)
    splits = source.load(QuestionAnswering())
    contexts = [set(rows["context"]) for rows in splits.values()]
    assert sum(map(len, contexts)) == len(set().union(*contexts)) == 240
    assert sum(map(len, splits.values())) == 1190


@pytest.mark.slow
@pytest.mark.skipif(not SHAKESPEARE.is_file(), reason="the data is not on this machine")
def test_shakespeare(train):
    """A text file and a network from nothing: after a few steps it knows more than the frequencies of bytes do."""
    options = ["task.document_separator=newline", "task.block_size=64", "trainer.args.learning_rate=1e-2"]
    model = ["model=gpt_tiny", "model.config.n_layer=1", "model.config.n_embd=64", "model.config.n_head=2"]
    files = [f"dataset.files.train={SHAKESPEARE}", "dataset.test_size=0.05", "trainer.args.max_steps=100"]
    result = train(
        "dataset=local", "task=causal_lm", *options, *model, *files, "dataset.max_samples.test=500", *FEW[:2]
    )
    text = SHAKESPEARE.read_bytes()
    entropy = -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())
    assert result.metrics["test_bits_per_byte"] < entropy
