"""Check of the training arguments before a run trains or records anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hydratune.utils.errors import ConfigError, Mistake, Problem, one_line

_WHOLE_NETWORK = ("params", "model", "optimizer_dict")  # arguments of optimizers that inspect the model's layers


def check_training_arguments(args: Any, network: Any) -> None:
    """Check that Trainer can create its optimizer, schedule, DataLoader, and trackers from `TrainingArguments`.

    Raises:
        ConfigError: If one of them rejects its arguments, which would otherwise end the run at its first step.
    """
    from transformers import Trainer

    def optimizer() -> Any:
        cls, options = Trainer.get_optimizer_cls_and_kwargs(args, network)
        return None if {*_WHOLE_NETWORK} & {*options} or not isinstance(cls, type) else cls([_weight()], **options)

    def schedule() -> None:
        from torch.optim import SGD
        from transformers import get_scheduler

        warmup, steps = args.get_warmup_steps(100), 100
        options = {"num_warmup_steps": warmup, "num_training_steps": steps}
        scheduler_type, scheduler_kwargs = args.lr_scheduler_type, args.lr_scheduler_kwargs
        get_scheduler(scheduler_type, SGD([_weight()], lr=1.0), **options, scheduler_specific_kwargs=scheduler_kwargs)

    def loader() -> None:
        from torch.utils.data import DataLoader

        names = ("num_workers", "persistent_workers", "prefetch_factor")
        DataLoader([0], **{name: getattr(args, f"dataloader_{name}") for name in names})

    def reporters() -> None:
        from transformers.integrations import get_reporting_integration_callbacks

        for reporter in get_reporting_integration_callbacks(args.report_to):
            reporter()

    def kernels() -> None:
        from transformers.utils import is_liger_kernel_available

        if args.use_liger_kernel and not is_liger_kernel_available():
            raise ImportError("liger-kernel is not installed")

    checks = {
        "optim": ("an optimizer that takes its arguments", optimizer),
        "lr_scheduler_type": ("a schedule that takes its arguments", schedule),
        "dataloader_num_workers": ("workers that the other dataloader arguments suit", loader),
        "report_to": ("trackers that are installed", reporters),
        "use_liger_kernel": ("kernels that are installed", kernels),
    }
    if problems := [
        problem for name, (expected, create) in checks.items() for problem in _refusal(name, expected, create)
    ]:
        raise ConfigError(*problems)


def check_full_batch(trainer: Any) -> None:
    """Raise ConfigError if `dataloader_drop_last` drops all training rows, so that no step would be trained.

    Args:
        trainer: Trainer with its final batch size.
    """
    args, rows = trainer.args, trainer.train_dataset
    size = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and hasattr(rows, "__len__") and len(rows) < size:
        fix = "Set trainer.args.dataloader_drop_last=false, or lower trainer.args.per_device_train_batch_size."
        expected = f"false for fewer training rows than one batch of {size}"
        raise ConfigError(Mistake("trainer.args.dataloader_drop_last", expected, f"true for {len(rows)} rows", fix))


def _refusal(name: str, expected: str, create: Callable[[], Any]) -> Iterator[Problem]:
    try:
        create()
    except (AttributeError, ImportError, RuntimeError, TypeError, ValueError) as error:
        fix = "Change or leave out what trainer.args says of it."
        yield Mistake(f"trainer.args.{name}", expected, one_line(error), fix)


def _weight() -> Any:
    import torch

    return torch.nn.Parameter(torch.zeros(1))
