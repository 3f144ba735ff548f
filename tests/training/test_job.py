"""Names of runs."""

from pathlib import Path

import pytest

from hydratune.config.composition import without_hydra
from hydratune.training.job import Job, run_info


def test_run_name_begins_with_what_differs(compose):
    """Tables cut long names at their end, where the part is that all runs of an experiment share."""
    overrides = ["seed=3", "trainer.args.learning_rate=1e-3", "name=films"]
    cfg = without_hydra(compose(*overrides))
    job = Job(Path("run"), [*overrides, "trainer.args.logging_steps=5"])
    assert run_info(cfg, job).name == "seed=3 lr=0.001 films"


def test_run_name_includes_short_lists_and_texts(compose):
    """Values of any type differ between runs; those that say where data is do not, and long ones would hide others."""
    overrides = ["task.metrics=[accuracy,f1]", "task.loss=focal", "name=films", "++vars.note=x"]
    cfg = without_hydra(compose(*overrides))
    assert run_info(cfg, Job(Path("run"), overrides)).name == "metrics=[accuracy,f1] loss=focal films"


@pytest.mark.parametrize(
    ("option", "overrides", "checkpoint", "name"),
    [
        ("minilm", [], "/site-packages/minilm/model", "minilm"),
        ("bert", [], "google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("pretrained", [], "/checkpoints/mine", "/checkpoints/mine"),
        ("minilm", ["model.pretrained_model_name_or_path=/mine"], "/mine", "/mine"),
        (None, [], "/checkpoints/mine", "/checkpoints/mine"),
    ],
)
def test_job_names_the_model_as_the_user_chose_it(option, overrides, checkpoint, name, tmp_path):
    """The path of a package is neither typed nor known by the user."""
    assert Job(tmp_path, overrides, {"model": option}).model_name(checkpoint) == name
