"""Short forms of numbers, settings, and metrics, for tables, figures, notes, and names of runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

# Last part of a key -> its usual short form. Commands and configs take the key only.
_SHORT = {
    "learning_rate": "lr",
    "per_device_train_batch_size": "bs",
    "effective_batch_size": "eff_bs",
    "gradient_accumulation_steps": "accum",
    "num_train_epochs": "ep",
    "max_steps": "steps",
    "weight_decay": "wd",
    "warmup_steps": "warmup",
    "lr_scheduler_type": "sched",
    "label_smoothing_factor": "smoothing",
    "max_grad_norm": "clip",
    "max_length": "len",
    "lora_alpha": "alpha",
    "pretrained_model_name_or_path": "base",
    "matthews_correlation": "mcc",
}


def short_name(key: str) -> str:
    """Return the short form of the last part of a key, or of each of several keys that are joined by `+`.

    >>> short_name("trainer.args.learning_rate+seed")
    'lr+seed'
    """
    return "+".join(_SHORT.get(last, last) for last in (part.rpartition(".")[2] for part in key.split("+")))


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Return key -> short form; keys with the same short form stay as they are.

    >>> short_names(["a.learning_rate", "b.learning_rate", "seed"])
    {'a.learning_rate': 'a.learning_rate', 'b.learning_rate': 'b.learning_rate', 'seed': 'seed'}
    """
    names = {key: short_name(key) for key in keys}
    shared = [*names.values()]
    return {key: name if shared.count(name) == 1 else key for key, name in names.items()}


def metric_name(name: str) -> str:
    """Return the short form of a metric, without the prefix of validation.

    >>> metric_name("eval_matthews_correlation")
    'mcc'
    """
    return short_name(name.removeprefix("eval_"))


def setting_text(value: object) -> str:
    """Return the value of a setting as in a config, but with three significant digits."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(setting_text, value))}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def settings_text(settings: Mapping[str, object]) -> str:
    """Return settings by their short names on one line, e.g. `lr=3e-05 wd=0.1`."""
    names = short_names(settings)
    return " ".join(f"{names[key]}={setting_text(value)}" for key, value in settings.items())


def number_text(value: object) -> str:
    """Return a number with four decimals, or with four significant digits if it is small or large; counts have none.

    A missing value is empty. What is not a number is shown as it is.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return str(float(value))
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.4g}"


def share_text(share: float, decimals: int = 1) -> str:
    """Return a share as a percentage, which is 0% or 100% only if it is exactly that.

    >>> share_text(0.25), share_text(0.0001), share_text(0.9999)
    ('25.0%', '<0.1%', '>99.9%')
    """
    smallest = 10.0 ** -(decimals + 2)
    if 0 < share < smallest:
        return f"<{smallest:.{decimals}%}"
    return f">{1 - smallest:.{decimals}%}" if 1 - smallest < share < 1 else f"{share:.{decimals}%}"


def ties_text(values: Iterable[float], best: float) -> str:
    """Return how many values equal the best one, of which the first is the best, after a comma; empty without a tie.

    >>> ties_text([0.9, 0.8, 0.9, 0.9], 0.9)
    ', the first of 3 with this value'
    """
    count = sum(value == best for value in values)
    return f", the first of {count} with this value" if count > 1 else ""


def is_finite(value: object) -> TypeGuard[float]:
    """Return whether a value is a number other than NaN and infinity."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
