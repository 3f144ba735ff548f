"""A run says whether it goes on exactly, and why not."""

from types import SimpleNamespace

import pytest
import torch
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    default_data_collator,
)
from transformers.trainer_callback import ExportableState

from hydratune.exact import exactness
from hydratune.training.saving import SavingTrainer
from test_tracking import runs


class Counts(TrainerCallback):
    """Remembers, and tells no checkpoint."""

    def __init__(self):
        self.steps = 0


class Tells(Counts, ExportableState):
    """Remembers, and tells checkpoints."""


def made(kind=SavingTrainer, collator=default_data_collator, callbacks=(), device="cpu", rows=(), **args):
    """A trainer with nothing but what decides."""
    trainer = object.__new__(kind)
    told = {"save_only_model": False, "restore_callback_states_from_checkpoint": True, **args}
    trainer.args = SimpleNamespace(device=torch.device(device), **told)
    trainer.train_dataset, trainer.data_collator = rows, collator
    trainer.callback_handler = SimpleNamespace(callbacks=callbacks)
    return trainer


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"kind": Trainer}, "Trainer forgets some of what it goes on from (trainer._target_)"),
        ({"rows": iter(())}, "a stream begins at another row (dataset.streaming)"),
        ({"device": "cuda"}, "kernels of a GPU add in an order of their own (hardware.deterministic)"),
        ({"save_only_model": True}, "no checkpoint has the optimizer (trainer.args.save_only_model)"),
        ({"collator": Counts()}, "Counts may draw at random (task)"),
        ({"collator": made}, "made may draw at random (task)"),
        (
            {"callbacks": [EarlyStoppingCallback()], "restore_callback_states_from_checkpoint": False},
            "EarlyStoppingCallback begins anew (trainer.args.restore_callback_states_from_checkpoint)",
        ),
        (
            {"callbacks": [Tells(), Counts()]},
            "no checkpoint has what Counts remembers, which is no ExportableState (trainer.callbacks)",
        ),
    ],
)
def test_what_is_not_exact(given, reason):
    """Each reason names what to change."""
    assert exactness(made(**given)) == f"no, because {reason}"


def test_random_masks_of_transformers(tiny_model):
    """Its collator for masked language models draws from the state that torch happens to have."""
    collator = DataCollatorForLanguageModeling(AutoTokenizer.from_pretrained(tiny_model))
    assert exactness(made(collator=collator)).endswith("DataCollatorForLanguageModeling may draw at random (task)")


def test_kernels_that_repeat_themselves():
    """A GPU is exact where it is asked to be; and what remembers nothing, or tells it, is no reason."""
    torch.use_deterministic_algorithms(True)
    try:
        assert exactness(made(device="cuda", callbacks=[Tells(), TrainerCallback(), EarlyStoppingCallback()])) == "yes"
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "yes"),
        (
            [
                "dataset.streaming=true",
                "dataset.labels=[neg,pos]",
                "trainer.args.max_steps=1",
                "trainer._target_=transformers.Trainer",
            ],
            "no, because Trainer forgets some of what it goes on from (trainer._target_); "
            "a stream begins at another row (dataset.streaming)",
        ),
    ],
)
def test_a_run_says_so(train, toy, store, caplog, overrides, said):
    """In one line, with all reasons, and as a tag."""
    caplog.set_level("INFO")
    train(*toy, "trainer.args.num_train_epochs=0.1", *overrides)
    assert f"exact: {said}" in caplog.messages
    (run,) = runs(store)
    assert run.data.tags["exact"] == said
