"""Every shipped experiment runs two steps on a tiny network, or is skipped because it needs the hub."""

import pytest

from hydratune.config.options import options, shipped_dir
from hydratune.utils.errors import ConfigError
from tiny_models import TINY

EXPERIMENTS = [option.name for option in options(shipped_dir()) if option.group == "experiment"]
# What makes a shipped model tiny; the others are replaced by the tiny checkpoint.


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_two_steps(name, train, compose, tiny_model):
    """Two steps, an evaluation and a test."""
    model = compose(f"experiment={name}").hydra.runtime.choices.model
    replaced = ["model=pretrained", "model.pretrained_model_name_or_path={tiny}"]
    tiny = [override.format(tiny=tiny_model) for override in TINY.get(model, replaced)]
    few = [f"dataset.max_samples.{split}=64" for split in ("train", "validation", "test")]
    try:
        fold = [] if compose(f"experiment={name}").cv.folds is None else ["cv.fold=0"]
        result = train(f"experiment={name}", *tiny, *few, *fold, "trainer.args.max_steps=2", "hardware.threads=1")
    except ConfigError as error:
        if all("huggingface.co" in problem.message for problem in error.problems):
            pytest.skip("needs the hub")
        raise
    assert result.metrics["step"] == 2
    assert f"test_{compose(f'experiment={name}').objective.removeprefix('eval_')}" in result.metrics
    assert (result.directory / "model" / "model.safetensors").is_file()
