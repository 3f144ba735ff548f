"""Check of the training arguments before a run trains or records anything."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value, one_line

_MISSING = (  # messages of transformers about packages that are not installed
    re.compile(r"`pip install (?:-U )?([^`]+?)\.?`"),
    re.compile(r"requires (\S+) to be installed"),
)
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

    def reporter(name: str) -> Any:
        from transformers.integrations import get_reporting_integration_callbacks

        return [callback() for callback in get_reporting_integration_callbacks([name])]

    def kernels() -> None:
        from transformers.utils import is_liger_kernel_available

        if args.use_liger_kernel and not is_liger_kernel_available():
            raise ImportError("`pip install liger-kernel`")

    problems = [*_check_combinations(args)] or [
        *_refusal("optim", args.optim, "the optimizer", optimizer),
        *_refusal("lr_scheduler_type", args.lr_scheduler_type, "the schedule", schedule),
        *_refusal("dataloader_num_workers", args.dataloader_num_workers, "a DataLoader", loader),
        *(p for name in args.report_to for p in _refusal("report_to", name, "the tracker", partial(reporter, name))),
        *_refusal("use_liger_kernel", "true", "the kernels", kernels),
    ]
    if problems:
        raise ConfigError(*problems)


def check_full_batch(trainer: Any) -> None:
    """Raise ConfigError if `dataloader_drop_last` drops all training rows, so that no step would be trained.

    Args:
        trainer: Trainer with its final batch size.
    """
    args, rows = trainer.args, trainer.train_dataset
    size = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and hasattr(rows, "__len__") and len(rows) < size:
        text = f"{KEY}=true leaves no batch: {len(rows)} training rows are fewer than the batch size {size}"
        hint = f"set {KEY}=false, or lower trainer.args.per_device_train_batch_size"
        raise ConfigError(Problem("trainer.args.dataloader_drop_last", text, hint))


def _check_combinations(args: Any) -> Iterator[Problem]:
    """Yield errors of combinations that the messages of upstream do not explain."""
    if args.optim_args and any(pair.count("=") != 1 for pair in args.optim_args.split(",")):
        yield invalid_value("trainer.args.optim_args", "NAME=VALUE or NAME=VALUE,NAME=VALUE", repr(args.optim_args))
    names = ("persistent_workers", "prefetch_factor")
    if not args.dataloader_num_workers and (name := next((n for n in names if getattr(args, f"dataloader_{n}")), "")):
        text = f"trainer.args.dataloader_{name} needs DataLoader workers, but {KEY}=0"
        yield Problem("trainer.args.dataloader_num_workers", text, f"set {KEY}=2")


def _refusal(name: str, value: Any, kind: str, create: Callable[[], Any]) -> Iterator[Problem]:
    try:
        create()
    except (AttributeError, ImportError, RuntimeError, TypeError, ValueError) as error:
        choice = f"{KEY}={getattr(value, 'value', value)}"
        missing = next((match[1] for pattern in _MISSING if (match := pattern.search(str(error)))), "")
        if package := missing.strip("`'"):
            text = f"{choice} needs the package {package.rpartition('/')[2]}"
            yield Problem(f"trainer.args.{name}", text, f"pip install {shlex.quote(package)}")
        elif unknown := re.search(r"unexpected keyword argument ('.*')", str(error)):
            yield Problem(f"trainer.args.{name}", f"{choice} has no argument {unknown[1]}")
        else:
            yield Problem(f"trainer.args.{name}", f"{kind} of {choice} cannot be created: {one_line(error, 200)}")


def _weight() -> Any:
    import torch

    return torch.nn.Parameter(torch.zeros(1))
