"""Optimization settings of the Trainer are checked before anything heavy is imported."""

from pathlib import Path

import hydratune.conf
import pytest
import yaml

from hydratune.config.optimization import NEUTRAL, rate_warning
from hydratune.config.validate import check_config
from hydratune.utils.errors import ConfigError


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["trainer.layer_decay=0.9", "trainer.head_lr_multiplier=10", "trainer.groups={embeddings: 0.1}"], []),
        (["trainer.groups={embeddings: {lr_multiplier: 0.1, weight_decay: 0}}"], []),
        (["trainer.groups.embeddings=0.1", "trainer.unfreeze.embeddings=1"], []),
        (["trainer.layer_decay=0"], ["trainer.layer_decay"]),
        (["trainer.layer_decay=1.1"], ["trainer.layer_decay"]),
        (["trainer.layer_decay=x"], ["trainer.layer_decay"]),
        (["trainer.head_lr_multiplier=0"], ["trainer.head_lr_multiplier"]),
        (["trainer.groups=embeddings"], ["trainer.groups"]),
        (["trainer.groups={embeddings: 0}"], ["trainer.groups.embeddings"]),
        (["trainer.groups={embeddings: true}"], ["trainer.groups.embeddings"]),
        (["trainer.groups={embeddings: {}}"], ["trainer.groups.embeddings"]),
        (["trainer.groups={embeddings: {lr: 1}}"], ["trainer.groups.embeddings.lr"]),
        (["trainer.groups={embeddings: {weight_decay: -1}}"], ["trainer.groups.embeddings.weight_decay"]),
        (["trainer.unfreeze={embeddings: 1, encoder.layer.0: 2}"], []),
        (["trainer.unfreeze={embeddings: 0}"], ["trainer.unfreeze.embeddings"]),
        (["trainer.unfreeze={embeddings: 1.5}"], ["trainer.unfreeze.embeddings"]),
        (["trainer.unfreeze={embeddings: 3}"], ["trainer.unfreeze.embeddings"]),
        (["trainer.averaging=ema", "trainer.ema_decay=1"], ["trainer.ema_decay"]),
        (["trainer.averaging=swa", "trainer.swa_start=1"], ["trainer.swa_start"]),
        (["trainer.averaging=mean"], ["trainer.averaging"]),
        (["trainer.averaging=ema", "hardware=fsdp"], ["trainer.averaging"]),
        (["trainer.averaging=soup", "trainer.args.save_total_limit=5"], []),
        (["trainer.averaging=soup"], ["trainer.averaging"]),
        (
            ["trainer.averaging=soup", "trainer.args.save_total_limit=2", "trainer.args.load_best_model_at_end=false"],
            ["trainer.averaging"],
        ),
    ],
)
def test_check_config_compares_optimization_settings(overrides, keys, compose):
    """Each invalid value is reported with its own key."""
    found = []
    try:
        check_config(compose(*overrides))
    except ConfigError as error:
        found = [problem.key for problem in error.problems]
    assert found == keys


UPSTREAM = ["trainer._target_=transformers.Seq2SeqTrainer", "~trainer.on_nan", "~trainer.max_skipped"]


def test_other_trainers_ignore_neutral_settings(compose):
    """Their defaults have no effect, so that a Trainer without them is valid; other values are not."""
    check_config(compose(*UPSTREAM))
    with pytest.raises(ConfigError) as caught:
        check_config(compose(*UPSTREAM, "trainer.layer_decay=0.9"))
    assert [problem.key for problem in caught.value.problems] == ["trainer.layer_decay"]


def test_neutral_settings_are_the_defaults():
    """The shipped config has each of them with the value that has no effect."""
    (folder,) = hydratune.conf.__path__
    shipped = yaml.safe_load((Path(folder) / "trainer" / "default.yaml").read_text())
    assert {name: shipped[name] for name in NEUTRAL} == NEUTRAL


@pytest.mark.parametrize(
    ("rate", "optimizer", "warns"),
    [
        (1e5, "adamw_torch", True),
        (5, "adamw_torch", True),
        (1e-12, "adamw_torch", True),
        (0.3, "adafactor", False),  # prompt tuning
        (1.0, "prodigy", False),
        (3e-5, "adamw_torch", False),
        (0, "adamw_torch", False),
        (5, "sgd", False),
        (1e5, "sgd", True),
    ],
)
def test_rate_warning_names_implausible_rates(rate, optimizer, warns):
    """Rates that someone trains with are accepted silently."""
    assert ("learning_rate" in rate_warning(rate, optimizer)) == warns
