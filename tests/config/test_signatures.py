"""Signatures read from source text are those that Python itself reports."""

import inspect
import subprocess
import sys

import pytest
import transformers

from hydratune.config.annotations import type_error
from hydratune.config.signatures import locate, module_names, signature


@pytest.mark.parametrize(
    "path",
    [
        "transformers.TrainingArguments",
        "transformers.Seq2SeqTrainingArguments",
        "transformers.Trainer",
        "transformers.Seq2SeqTrainer",
        "transformers.EarlyStoppingCallback",
        "transformers.DataCollatorWithPadding",
        "transformers.PrinterCallback",
    ],
)
def test_agrees_with_inspect(path):
    """Names, order and which arguments are required are what `inspect.signature` says."""
    real = inspect.signature(getattr(transformers, path.rpartition(".")[2])).parameters.values()
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    expected = [(p.name, p.default is p.empty) for p in real if p.kind not in kinds]
    read = signature(path)
    assert [(p.name, p.required) for p in read.parameters.values()] == expected


def test_imports_nothing_heavy():
    """Reading the signature of a class of transformers does not import transformers."""
    code = (
        "import sys; from hydratune.config.signatures import signature;"
        "assert 'learning_rate' in signature('transformers.TrainingArguments').parameters;"
        "assert not {'transformers', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_follows_inheritance_to_init():
    """A class without an `__init__` of its own has that of its base."""
    assert signature("transformers.AutoModel.from_pretrained").accepts_any
    assert list(signature("transformers.ProgressCallback").parameters) == ["max_str_len"]
    assert list(signature("hydratune.training.trainer.callbacks.Progress").parameters) == ["max_str_len"]


def test_a_path_through_a_module_leads_where_it_really_leads():
    """`transformers.utils.os.system` is no code of transformers: it cannot be located as such."""
    assert locate("transformers.utils.os.system") is None
    assert locate("transformers.Trainer").path == "transformers.trainer.Trainer"
    assert locate("transformers.Trainer.train").path == "transformers.trainer.Trainer.train"


@pytest.mark.parametrize("path", ["nowhere", "nowhere.at.all", "transformers", "transformers.Nothing", "sys.exit", ""])
def test_unknown_paths_are_none(path):
    """What does not exist, or has no source text, is None and raises nothing."""
    assert locate(path) is None


def test_lists_names_of_a_module():
    """The names that a mistyped one is compared with include lazily imported ones."""
    assert {"Trainer", "TrainingArguments"} <= set(module_names("transformers"))


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("learning_rate", "x", "a finite number"),
        ("learning_rate", float("nan"), "a finite number"),
        ("learning_rate", True, "a finite number"),
        ("learning_rate", 1, None),
        ("max_steps", 1.5, "an integer"),
        ("bf16", "yes", "true or false"),
        ("eval_strategy", "epohc", "'epoch', 'no', or 'steps'"),
        ("eval_strategy", "epoch", None),
        ("save_strategy", "best", None),
        ("eval_steps", None, None),
        ("report_to", 3, "a string, a list, or null"),
        ("report_to", ["wandb"], None),
        ("lr_scheduler_kwargs", {"a": 1}, None),
        ("parallelism_config", object(), None),
        ("trackio_static_space_id", "me/space", None),
        ("trackio_static_space_id", False, None),
        ("trackio_static_space_id", 0, "a string, false, or null"),
    ],
)
def test_values_against_annotations(name, value, wanted):
    """A value is held against its annotation; where nobody can tell, it passes."""
    assert type_error(signature("transformers.TrainingArguments").parameters[name], value) == wanted


def test_annotations_of_own_classes():
    """Literal, Optional and containers are understood."""
    hardware = signature("hydratune.training.Hardware").parameters
    assert type_error(hardware["precision"], "fp8") == "'auto', 'bf16', 'fp16', 'fp32', or 'tf32'"
    assert type_error(hardware["threads"], "many") == "an integer or null"
    task = signature("hydratune.tasks.MultiLabelClassification").parameters
    assert type_error(task["metrics"], "accuracy") == "a list"


def test_arguments_that_are_passed_on():
    """A class that passes `**kwargs` on to its base takes what that takes, and nothing else."""
    found = signature("hydratune.training.Trainer")
    assert {"on_nan", "max_skipped", "model", "compute_metrics"} <= found.parameters.keys()
    assert not found.accepts_any
