"""A config names classes that are marked, by the packages that export them."""

import re

import pytest

from hydratune.config.allowlist import check_target
from hydratune.config.options import shipped_dir


def targets():
    """The classes of hydratune that the shipped configs name."""
    texts = [path.read_text(encoding="utf-8") for path in shipped_dir().rglob("*.yaml")]
    return sorted({target for text in texts for target in re.findall(r"_target_: (hydratune\.\S+)", text)})


@pytest.mark.parametrize("target", targets())
def test_error_of_a_shipped_target_is_none(target):
    """Each is a `Configurable` that a package exports."""
    assert target.count(".") == 2
    assert check_target(target, "._target_") is None


@pytest.mark.parametrize("path", ["hydratune.data.raw.RawDataset", "hydratune.utils.files.write_text"])
def test_error_of_an_unmarked_name(path):
    """Other code of hydratune may not be named."""
    problem = check_target(path, "x._target_")
    assert problem.key == "x._target_"
    assert repr(path) in problem.text


@pytest.mark.parametrize(
    ("path", "exported"),
    [
        ("hydratune.adapters.Adapter", "hydratune.models.Adapter"),
        ("hydratune.tasks.CausalLM", "hydratune.tasks.CausalLm"),
        ("hydratune.model.Pretrained", "hydratune.models.Pretrained"),
    ],
)
def test_error_of_a_wrong_module_names_the_package(path, exported):
    """The hint is the package that exports the class, e.g. for the config of a run made by an earlier version."""
    assert exported in check_target(path, "x._target_").hint


@pytest.mark.parametrize(
    ("target", "own", "others"),
    [
        (
            "transformers.TrainingArguments",
            "trainer.args",
            ["trainer.args.activation_checkpointing_kwargs.x", "trainer.callbacks.early.patience", "dataset", "args"],
        ),
        ("transformers.Seq2SeqTrainer", "trainer", ["trainer.args.x", "trainer.callbacks.x", "sweep.sampler.x"]),
        ("hydratune.training.Trainer", "trainer", ["trainer.args.x", "task.extra_metrics.x", "dataset", "sweep"]),
        ("hydratune.sweep.CmaEsSampler", "sweep.sampler", ["sweep.x", "task.x", "model"]),
        ("transformers.EarlyStoppingCallback", "trainer.callbacks.x", ["trainer.callbacks.x.y", "trainer", "task.x"]),
        ("hydratune.data.LocalFiles", "dataset", ["trainer.args.x", "trainer.callbacks.x", "trainer"]),
        ("peft.LoraConfig", "adapter.config", ["model.x", "trainer.args.x"]),
        ("optuna.samplers.TPESampler", "sweep.sampler", ["sweep.x", "trainer.args.x"]),
    ],
)
def test_target_is_allowed_only_where_its_arguments_are_checked(target, own, others):
    """The checks of arguments belong to keys; a class at another key would be built without them."""
    assert check_target(target, f"{own}._target_") is None
    for key in others:
        assert check_target(target, f"{key}._target_").key == f"{key}._target_"
