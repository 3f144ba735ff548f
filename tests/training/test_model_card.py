"""The card of a saved model says what it is, and its code works."""

import json
import re

import pytest
from huggingface_hub import ModelCard

from conftest import write_rows
from hydratune.config.optimization import NEUTRAL
from hydratune.training.model_card import pipeline_name, point_to


def card(result):
    """The card of a run."""
    return ModelCard.load(result.directory / "model" / "README.md")


def load(result):
    """What the Python on a card binds, and the card's text."""
    text = (result.directory / "model" / "README.md").read_text()
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)  # noqa: S102 (our own)
    return names, text


def test_metrics_are_metadata(train, toy):
    """What the hub reads of a card: the metrics of both splits, the pipeline, and no license."""
    result = train(*toy, "trainer.args.max_steps=1")
    data = card(result).data
    found = {(one.dataset_split, one.metric_type): one.metric_value for one in data.eval_results}
    assert found["test", "accuracy"] == result.metrics["test_accuracy"]
    assert found["validation", "loss"] == result.metrics["eval_loss"]
    assert not [name for _, name in found if name.endswith(("runtime", "per_second"))]
    assert {one.dataset_name for one in data.eval_results} == {"local"}
    assert (data.pipeline_tag, data.library_name) == ("text-classification", "transformers")
    assert (data.license, data.base_model, data.datasets) == (None, None, None)


def test_the_story(train, toy, tiny_model):
    """Rows of each split, checkpoint, seed, command, versions and config are there; the user's directory is not."""
    result = train(*toy, "trainer.args.max_steps=1", "seed=7")
    text = card(result).text
    assert "| rows | train 32 rows, validation 24 rows, test 16 rows |" in text
    assert tiny_model.name in text
    assert "| seed | 7 |" in text
    assert "seed=7" in re.search(r"```bash\n(.*)\n```", text)[1]
    assert "transformers 5." in text
    assert "per_device_train_batch_size: 32" in text
    assert str(result.directory.parent) not in text


def test_card_has_changed_optimization_settings(train, toy):
    """Learning rates by layer and averages are listed if they have an effect."""
    settings = ["trainer.layer_decay=0.5", "trainer.averaging=ema", "trainer.groups={embeddings: 0.1}"]
    rows = re.findall(
        r"^\| (\w+) \| (.*) \|$", card(train(*toy, *settings, "trainer.args.max_steps=1")).text, re.MULTILINE
    )
    found = {name: value for name, value in rows if name in NEUTRAL}
    assert found == {"layer_decay": "0.5", "averaging": "ema", "groups": "{'embeddings': 0.1}"}


def test_card_has_the_effective_training_arguments(train, toy):
    """What hardware and task have set and what follows from several settings; a file has all arguments, no directory."""
    result = train(*toy, "hardware.attn_implementation=sdpa", "trainer.args.gradient_accumulation_steps=2")
    text = card(result).text
    expected = {
        "learning_rate": "0.02",
        "effective_batch_size": "64",
        "world_size": "1",
        "precision": "fp32",
        "train_sampling_strategy": "group_by_length",
        "attn_implementation": "sdpa",
    }
    assert {name: f"| {name} | {value} |" in text for name, value in expected.items()} == dict.fromkeys(expected, True)
    file = (result.directory / "model" / "training_args.json").read_text()
    found, ours = json.loads(file), json.loads((result.directory / "training_args.json").read_text())
    assert {**found, "output_dir": ours["output_dir"]} == ours
    assert str(result.directory.parent) not in file


def test_card_names_use_limits_baseline_and_where_metrics_were_measured(train, toy):
    """Labels, the maximum length, the seed, the rows of each metric, and the scores of the most frequent label."""
    result = train(*toy, "trainer.args.max_steps=1", "seed=7", "task.max_length=16")
    sections = dict(re.findall(r"^## (.+?)\n\n(.*?)(?=^## |\Z)", card(result).text, re.DOTALL | re.MULTILINE))
    assert {"neg", "pos."} <= {*sections["Intended use"].replace(",", "").split()}
    assert {"16", "7."} <= {*sections["Limitations"].split()}
    (accuracy,) = re.findall(r"^\| accuracy \|.*", sections["Metrics"], re.MULTILINE)
    assert [cell.strip() for cell in accuracy.split("|")[3::2]][:1] == ["0.5000"]
    for value in ("24 rows", "16 rows", "by accuracy", "fp32", "cpu", "baseline"):
        assert value in sections["Metrics"]
    assert "not stated" in sections["License"]


def test_code_of_a_classifier(train, toy):
    """The three lines make a pipeline that knows the labels."""
    names, _ = load(train(*toy))
    assert names["model"]("the film was good")[0]["label"] in ("pos", "neg")


@pytest.mark.parametrize("merge", ["false", "true"])
def test_code_of_an_adapter(train, toy, merge):
    """With an adapter alone, and with one that was merged."""
    names, text = load(train(*toy, "adapter=lora", f"adapter.merge={merge}", "trainer.args.max_steps=1"))
    assert names["model"]("the film was good")[0]["label"] in ("pos", "neg")
    assert ("library_name: peft" in text) == (merge == "false")
    assert "| adapter | lora |" in text


def test_code_without_a_pipeline(train, tiny, own_directory):
    """A task that transformers has no pipeline for is loaded as network and tokenizer."""
    rows = [{"text": "the film", "choices": ["was good", "was bad"], "label": i % 2} for i in range(8)]
    path = write_rows(own_directory / "a.jsonl", rows)
    names, _ = load(train("task=multiple_choice", "dataset=local", f"dataset.files.train={path}", *tiny))
    assert type(names["model"]).__name__ == "BertForMultipleChoice"
    assert names["tokenizer"]("good film")["input_ids"]


def test_code_of_a_language_model(train, tiny_gpt, own_directory):
    """A network from scratch says so, and writes."""
    path = write_rows(own_directory / "a.jsonl", [{"text": "the film was good " * 8}] * 20)
    names, text = load(train("task=causal_lm", "dataset=local", f"dataset.files.train={path}", *tiny_gpt))
    assert names["model"]("the film", max_new_tokens=2)[0]["generated_text"].startswith("the film")
    assert "| started from | random weights |" in text


def test_a_card_points_to_the_hub(train, toy):
    """Once pushed, the code loads the model from there; nothing else changes, and it can be done again."""
    result = train(*toy, "trainer.args.max_steps=1")
    before = load(result)[1]
    for place in ("me/one", "me/two"):
        point_to(result.directory / "model", place)
    after = (result.directory / "model" / "README.md").read_text()
    assert after == before.replace('folder = "run/model"', 'folder = "me/two"') != before


def test_fences_hold(train, toy):
    """A config that has fences of its own stays one block."""
    result = train(*toy, "trainer.args.max_steps=1", "+vars.text='```'")
    assert "\n````yaml\n" in card(result).text


@pytest.mark.parametrize(
    ("auto_model", "name"),
    [("AutoModelForImageClassification", "image-classification"), ("AutoModelForSeq2SeqLM", None)],
)
def test_pipelines(auto_model, name):
    """The pipeline is the one that transformers itself has for such a network."""
    assert pipeline_name(auto_model) == name
