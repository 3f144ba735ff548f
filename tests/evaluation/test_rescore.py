"""Metrics of decoded rows: those of the run that wrote them, of resampled rows too."""

import json

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from conftest import predictions, write_rows
from hydratune.config.instantiate import build
from hydratune.evaluation.compare.paired_tests import RowScores

WORDS = ("good", "bad", "great", "awful")
TEXTS = [f"the {thing} was {word}" for thing in ("film", "book") for word in WORDS]
BERT = ["trainer.args.learning_rate=0.01", "trainer.args.max_steps=4"]
SIZES = ["hidden_size=16", "num_hidden_layers=1", "num_attention_heads=2", "intermediate_size=16"]


def image(place, i):
    """The path of a picture in one of two colours."""
    path = place / f"{i}.png"
    Image.new("RGB", (8, 8), ["red", "blue"][i % 2]).save(path)
    return str(path)


def tags(i):
    """Tags of four words, an entity of one word and every third time one of two."""
    return ["O", "B-x", "I-x" if i % 3 == 0 else "O", "B-y" if i % 2 else "O"]


PROBABILISTIC = "log_loss,brier,ece,roc_auc,average_precision"
# Task -> a row of it by its number, what to measure, and other overrides.
CASES = {
    "two labels": (lambda i, _: {"text": TEXTS[i], "label": "pn"[i % 2]}, f"accuracy,f1,macro_f1,matthews_correlation,precision,recall,{PROBABILISTIC}", []),
    "three labels": (lambda i, _: {"text": TEXTS[i], "label": "abc"[i % 3]}, f"accuracy,macro_f1,matthews_correlation,quadratic_kappa,top_k_accuracy,{PROBABILISTIC}", ["task.top_k=2"]),
    "multi_label_classification": (
        lambda i, _: {"text": TEXTS[i], "labels": [["a"], ["a", "b"], [], ["c"]][i % 4]},
        f"micro_f1,macro_f1,subset_accuracy,macro_recall,{PROBABILISTIC}",
        ["task.threshold=0.4"],
    ),
    "regression": (lambda i, _: {"text": TEXTS[i], "label": i / 3}, "pearson,spearman,mse,mae", []),
    "token_classification": (lambda i, _: {"tokens": TEXTS[i].split(), "labels": tags(i)}, "f1,precision,recall,accuracy,balanced_accuracy,cohen_kappa,ece", []),
    "token_classification strictly": (
        lambda i, _: {"tokens": TEXTS[i].split(), "labels": tags(i)},
        "f1,precision,recall,accuracy",
        ["task=token_classification", "task.scheme=IOB2"],
    ),
    "question_answering": (
        lambda i, _: {"question": "what", "context": TEXTS[i], "answers": {"text": ["was", WORDS[i % 4]], "answer_start": [9, 13]}},
        "exact_match,f1",
        [],
    ),
    "seq2seq": (
        lambda i, _: {"source": TEXTS[i], "target": f"{TEXTS[i]} good"},
        "rouge1,rougeL,bleu,chrf,exact_match",
        ["task.max_target_length=8"],
    ),
    "multiple_choice": (lambda i, _: {"text": TEXTS[i], "choices": ["good", "bad"], "label": i % 2}, "accuracy,log_loss,brier,ece", []),
    "image_classification": (
        lambda i, place: {"image": image(place, i), "label": "rb"[i % 2]},
        "accuracy,f1",
        ["model=vit_tiny", "model.config.image_size=8", "model.config.patch_size=4", *(f"model.config.{size}" for size in SIZES)],
    ),
}  # fmt: skip


@pytest.fixture
def rescored(train, tiny, tiny_model, own_directory):
    """Trains a case for a few steps: its task, its metrics on test, its decoded rows and the names of its labels."""

    def run(case):
        make, metrics, more = CASES[case]
        write_rows(own_directory / "rows.jsonl", [make(i, own_directory) for i in range(8)])
        files = [f"dataset.files.{split}=rows.jsonl" for split in ("train", "validation", "test")]
        task = [] if " " in case else [f"task={case}"]
        model = ["model=minilm_seq2seq", f"model.encoder={tiny_model}"] if case == "seq2seq" else tiny[:2]
        model = tiny[2:3] if "model=vit_tiny" in more else [*model, *tiny[2:4]]
        result = train("dataset=local", *files, *task, f"task.metrics=[{metrics}]", *model, *more, *BERT)
        config = json.loads((result.directory / "model" / "config.json").read_text())
        names = [config["id2label"][number] for number in sorted(config.get("id2label", {}), key=int)]
        node = OmegaConf.load(result.directory / "config.yaml").task
        return build(node), result.metrics, predictions(result), names

    return run


@pytest.mark.parametrize("case", CASES)
def test_decoded_rows_are_scored_as_predictions_are(rescored, case):
    """`metrics_from_predictions` of predictions.jsonl is what Trainer measured on test, and so is a resample that draws each row once.

    Of rows that were drawn twice or never, both ways say the same.
    """
    task, measured, rows, names = rescored(case)
    scores = task.metrics_from_predictions(rows, names)
    assert set(task.metrics) <= set(scores)
    for name, value in scores.items():
        assert value == pytest.approx(measured[f"test_{name}"], abs=1e-6), name
    drawn = np.array([np.arange(8), [0, 0, 1, 5, 5, 7, 7, 7], [4, 3, 3, 2, 6, 1, 1, 1]])
    for name in task.metrics:
        expected = [task.metrics_from_predictions([rows[i] for i in numbers], names)[name] for numbers in drawn]
        scores = RowScores(task, name, [rows], names)
        assert scores.drawn(drawn)[0] == pytest.approx(expected, abs=1e-6), name
