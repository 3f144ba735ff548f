"""Values of the right type that train nothing end in one message, before anything is trained or recorded."""

import pytest
from transformers import TrainingArguments

from hydratune.config.validate import check_config
from hydratune.training.trainer.argument_check import check_training_arguments
from hydratune.utils.errors import ConfigError
from tracked import runs

BOUNDS = {
    "adam_beta2=1": "expected a number from 0 to below 1, got 1. Lower it.",
    "label_smoothing_factor=3": "expected a number from 0 to below 1, got 3. Lower it.",
    "adam_epsilon=-1": "expected a number from 0, got -1. Raise it.",
    "save_steps=0": "expected a number above 0, got 0. Raise it.",
    "dataloader_num_workers=100000": "expected a number to 256, got 100000. Lower it.",
    "resume_from_checkpoint=x": "expected nothing, since a run goes on from its own checkpoints, got 'x'. "
    "Run `hydratune resume RUN`, or set model.pretrained_model_name_or_path to its weights.",
    "max_steps=0": "expected a number of steps, or -1 for those of num_train_epochs, got 0. Set trainer.args.max_steps=-1.",
}


@pytest.mark.parametrize("override", BOUNDS)
def test_bounds(compose, override):
    """What upstream would take, and do nothing with or something else, is refused by its key."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose(f"trainer.args.{override}"))
    assert [str(one) for one in caught.value.problems] == [
        f"trainer.args.{override.partition('=')[0]}: {BOUNDS[override]}"
    ]


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
