"""Every shipped experiment runs two steps on a tiny network, or is skipped because it needs the hub."""

import pytest

from hydratune.composition import options, shipped_dir
from hydratune.errors import ConfigError

EXPERIMENTS = [option.name for option in options(shipped_dir()) if option.group == "experiment"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_two_steps(name, train, tiny_model):
    """Two steps, an evaluation and a test."""
    tiny = ["model=pretrained", f"model.pretrained_model_name_or_path={tiny_model}", "trainer.args.max_steps=2"]
    few = [f"dataset.limit.{split}=64" for split in ("train", "validation", "test")]
    try:
        result = train(f"experiment={name}", *tiny, *few)
    except ConfigError as error:
        if all("Hugging Face hub" in mistake.expected for mistake in error.mistakes):
            pytest.skip("needs the hub")
        raise
    assert result.metrics["step"] == 2
    assert "test_accuracy" in result.metrics
