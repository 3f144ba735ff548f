"""Values of the right type that train nothing end in one message, before anything is trained or recorded."""

import pytest
from transformers import TrainingArguments

from hydratune.config.validate import check_config
from hydratune.training.trainer.argument_check import check_training_arguments
from hydratune.utils.errors import ConfigError
from tracked import runs

# Override -> the requirement and the value in the message.
BOUNDS = {
    "adam_beta2=1": "less than 1, not 1",
    "label_smoothing_factor=3": "less than 1, not 3",
    "adam_epsilon=-1": "at least 0, not -1",
    "save_steps=0": "greater than 0, not 0",
    "dataloader_num_workers=100000": "at most 256, not 100000",
    "resume_from_checkpoint=x": "'x'",
    "max_steps=0": "not 0",
}


@pytest.mark.parametrize("override", BOUNDS)
def test_bounds(compose, override):
    """What upstream would take, and do nothing with or something else, is refused by its key."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose(f"trainer.args.{override}"))
    (problem,) = caught.value.problems
    assert problem.key == f"trainer.args.{override.partition('=')[0]}"
    assert BOUNDS[override] in problem.text


@pytest.mark.parametrize(
    ("arguments", "key", "value", "hint"),
    [
        ({"optim_args": "x"}, "optim_args", "'x'", ""),
        ({"optim": "lomo"}, "optim", "optim=lomo", "pip install lomo-optim"),
        ({"optim": "galore_adamw"}, "optim", "GaLore", "pip install git+https://github.com/jiaweizzhao/GaLore"),
        ({"lr_scheduler_kwargs": {"x": 1}}, "lr_scheduler_type", "=linear has no argument 'x'", ""),
        ({"dataloader_persistent_workers": True}, "dataloader_num_workers", "persistent_workers", "num_workers=2"),
        ({"use_liger_kernel": True}, "use_liger_kernel", "liger-kernel", "pip install liger-kernel"),
        ({"report_to": "wandb"}, "report_to", "report_to=wandb needs the package wandb", "pip install wandb"),
        ({"report_to": "tensorboard"}, "report_to", "needs the package tensorboard", "pip install tensorboard"),
    ],
)
def test_arguments_that_do_not_fit_together(arguments, key, value, hint):
    """What Trainer would refuse at its first step is told before."""
    with pytest.raises(ConfigError) as caught:
        check_training_arguments(TrainingArguments("x", use_cpu=True, **arguments), None)
    (problem,) = caught.value.problems
    assert problem.key == f"trainer.args.{key}"
    assert value in problem.message
    assert hint in "; ".join(problem.hints)


def test_nothing_is_recorded(train, toy, store):
    """A run with such arguments is none; a whole 0 for AdamW's first moment is fine."""
    with pytest.raises(ConfigError):
        train(*toy, "trainer.args.optim_args=x")
    assert runs(store) == []
    train(*toy, "trainer.args.adam_beta1=0", "trainer.args.max_steps=1", "tracking=none")
