"""The private methods of upstream's Trainer that ours overrides are listed, and are those that were read."""

import pytest
import transformers

from hydratune.training.trainer.trainer import Trainer
from hydratune.training.trainer.upstream_methods import CHECKED_WITH, OVERRIDES, digest


def test_overrides_lists_every_private_method():
    """The table has each private method that a class of ours overrides, and no other."""
    ours = [vars(one) for one in Trainer.__mro__ if one.__module__.startswith("hydratune.")]
    private = {name for members in ours for name in members if name.startswith("_") and not name.startswith("__")}
    assert {name for name in private if hasattr(transformers.Seq2SeqTrainer, name)} == {*OVERRIDES}


@pytest.mark.parametrize("name", OVERRIDES)
def test_digest_of_upstream_is_unchanged(name):
    """If this fails, upstream has changed a method since `CHECKED_WITH`: read the change, then adapt the override."""
    assert digest(getattr(transformers.Seq2SeqTrainer, name)) == OVERRIDES[name].digest, CHECKED_WITH
