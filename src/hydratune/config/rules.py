"""Rules for the values of a config: bounds of numbers, and keys that depend on each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hydratune.config.optimization import check_optimization
from hydratune.utils.errors import KEY, Problem, display_value, invalid_value
from hydratune.utils.provenance import has_literal_secret

# Argument of TrainingArguments -> its lowest valid value. Upstream checks few of them, and late.
LOWEST = {
    "adam_beta1": 0,
    "adam_beta2": 0,
    "adam_epsilon": 0,
    "dataloader_num_workers": 0,
    "eval_accumulation_steps": 1,
    "eval_delay": 0,
    "eval_steps": 0,
    "generation_max_length": 1,
    "generation_num_beams": 1,
    "gradient_accumulation_steps": 1,
    "label_smoothing_factor": 0,
    "learning_rate": 0,
    "logging_steps": 0,
    "max_grad_norm": 0,
    "neftune_noise_alpha": 0,
    "num_train_epochs": 0,
    "per_device_eval_batch_size": 1,
    "per_device_train_batch_size": 1,
    "save_steps": 0,
    "save_total_limit": 1,
    "weight_decay": 0,
}
# Rejected argument -> (reason, hint). Each of them silently loses or spoils work.
REFUSED = {
    "auto_find_batch_size": (
        "it restarts with partly trained parameters",
        "use hardware.auto_micro_batch=true, which finds the micro-batch size before training",
    ),
    "bf16_full_eval": (
        "it rounds the parameters that the run saves",
        "use hardware.precision=bf16, which also evaluates in bf16",
    ),
    "deepspeed": (
        "its checkpoints are pickle files, and its config can set paths to write to",
        "use hardware=fsdp, which also shards the model across GPUs",
    ),
    "enable_jit_checkpoint": (
        "it saves before the step is complete",
        "leave it out: on a signal, a run completes its step and saves a checkpoint",
    ),
    "fp16_full_eval": (
        "it rounds the parameters that the run saves",
        "use hardware.precision=fp16, which also evaluates in fp16",
    ),
    "generation_config": (
        "it reads a file or a repository of the Hub",
        "set trainer.args.generation_max_length and generation_num_beams, or change the checkpoint's own settings",
    ),
    "ignore_data_skip": (
        "a resumed run would train on rows twice",
        "leave it out: skipping the rows takes only seconds",
    ),
    **dict.fromkeys(
        ("trackio_space_id", "trackio_static_space_id", "trackio_bucket_id"),
        ("trackio sends your Hub token there", "leave it out"),
    ),
    "resume_from_checkpoint": (
        "a run resumes from its own checkpoints",
        "resume it with `hydratune resume RUN`\n"
        "for a new run with its parameters, set model.pretrained_model_name_or_path=DIR",
    ),
}
_ABOVE_ZERO = ("eval_steps", "logging_steps", "num_train_epochs", "save_steps")
# Keys that select the best checkpoint; the rules for it say nothing while one of them has another error.
_OF_BEST_CHECKPOINT = {
    *("objective", "trainer.args.eval_strategy", "trainer.args.save_strategy", "trainer.args.load_best_model_at_end"),
    *("trainer.args.eval_steps", "trainer.args.save_steps", "trainer.args.metric_for_best_model"),
}
_BELOW_ONE = ("adam_beta1", "adam_beta2", "label_smoothing_factor")
_MOST_WORKERS = 256  # a typo such as 100000 would start that many processes
SEEDS = 2**32  # seeds of NumPy are below this number


def select(plain: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key; None if the key does not exist."""
    node: Any = plain
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def bounds(plain: Mapping[str, Any], blamed: set[str]) -> Iterator[Problem]:
    """Yield an error for each value that no run can use, except for keys that already have an error."""
    yield from (problem for problem in _out_of_bounds(plain) if problem.key not in blamed)


def _out_of_bounds(plain: Mapping[str, Any]) -> Iterator[Problem]:
    name, seed = plain.get("name"), plain.get("seed")
    if not isinstance(name, str) or not name or "/" in name or not name.isprintable():
        yield invalid_value("name", "one line of text without slashes", display_value(name), f"set {KEY}=my_run")
    if isinstance(seed, int) and not 0 <= seed < SEEDS:
        yield invalid_value("seed", f"an integer from 0 to {SEEDS - 1}", seed)
    if plain.get("resume") not in (None, "auto"):
        hint = "to resume a particular run, use `hydratune resume RUN`"
        yield invalid_value("resume", "auto or null", display_value(plain["resume"]), hint)
    if (partial := select(plain, "trainer._partial_")) is not True:
        yield invalid_value("trainer._partial_", "true", display_value(partial), f"set {KEY}=true")
    for key, lowest in LOWEST.items():
        value = select(plain, f"trainer.args.{key}")
        strict = key in _ABOVE_ZERO
        if isinstance(value, int | float) and (value <= lowest if strict else value < lowest):
            requirement = f"greater than {lowest}" if strict else f"at least {lowest}"
            yield invalid_value(f"trainer.args.{key}", requirement, value)
        elif key in _BELOW_ONE and isinstance(value, int | float) and value >= 1:
            yield invalid_value(f"trainer.args.{key}", "less than 1", value)
    if isinstance(workers := select(plain, "trainer.args.dataloader_num_workers"), int) and workers > _MOST_WORKERS:
        yield invalid_value("trainer.args.dataloader_num_workers", f"at most {_MOST_WORKERS}", workers)
    steps = select(plain, "trainer.args.max_steps")
    if isinstance(steps, int) and (steps < -1 or steps == 0):
        requirement = "greater than 0, or -1 to train for num_train_epochs"
        yield invalid_value("trainer.args.max_steps", requirement, steps)


def refused_arguments(args: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield an error for each of `trainer.args` that no run may have, such as names of files with settings."""
    for name, (reason, hint) in REFUSED.items():
        if args.get(name):
            text = f"{KEY}={display_value(args[name])} is not supported: {reason}"
            yield Problem(f"trainer.args.{name}", text, hint)
    if isinstance(args.get("accelerator_config"), str):
        hint = f"write the settings themselves: '{KEY}={{split_batches: true}}'"
        file = repr(args["accelerator_config"])
        yield invalid_value("trainer.args.accelerator_config", "a mapping", f"a file ({file})", hint)


def agreement(plain: Mapping[str, Any], blamed: set[str]) -> Iterator[Problem]:
    """Yield an error for each setting that Trainer would reject, or would accept with another meaning."""
    args = select(plain, "trainer.args")
    if not isinstance(args, dict):
        return
    args = {name: value for name, value in args.items() if f"trainer.args.{name}" not in blamed}
    yield from refused_arguments(args)
    yield from _trainer(plain, args, blamed)
    yield from check_optimization(plain["trainer"], plain.get("hardware"), blamed)
    yield from _best_checkpoint(plain, args, blamed)
    yield from _sending(args, blamed)


def _trainer(plain: Mapping[str, Any], args: Mapping[str, Any], blamed: set[str]) -> Iterator[Problem]:
    """Yield the errors of arguments that do not fit the Trainer, the hardware, the task, or the dataset."""
    is_our_trainer = str(select(plain, "trainer._target_")).startswith("hydratune.")
    if is_our_trainer and str(args.get("_target_")).endswith(".TrainingArguments"):
        hint = "leave it out, or use trainer._target_=transformers.Trainer ~trainer.on_nan ~trainer.max_skipped"
        requirement = "transformers.Seq2SeqTrainingArguments with this Trainer"
        yield invalid_value("trainer.args._target_", requirement, repr(args["_target_"]), hint)
    if select(plain, "hardware.eval_precision") and select(plain, "hardware.fsdp_config"):
        value = display_value(select(plain, "hardware.eval_precision"))
        text = f"{KEY}={value} does not work with hardware.fsdp_config, because FSDP casts the parameters itself"
        yield Problem("hardware.eval_precision", text, "leave it out, or set hardware.precision=fp32")
    if args.get("predict_with_generate") is False and str(select(plain, "task._target_")).endswith(".Seq2Seq"):
        text = f"{KEY} must be true, because the task scores generated text"
        yield Problem("trainer.args.predict_with_generate", text, "leave it out")
    dataset = select(plain, "dataset")
    sources = [dataset, *(select(plain, "dataset.sources") or {}).values()]
    if (
        blamed.isdisjoint(("dataset.streaming", "trainer.args.max_steps"))
        and any(isinstance(node, dict) and node.get("streaming") is True for node in sources)
        and not (args.get("max_steps") or 0) > 0
    ):
        text = f"{KEY} is required with streaming, where the number of rows is unknown"
        yield Problem("trainer.args.max_steps", text, f"set {KEY}=10000")


def _best_checkpoint(plain: Mapping[str, Any], args: Mapping[str, Any], blamed: set[str]) -> Iterator[Problem]:
    """Yield the errors of settings without which the best checkpoint is not found."""
    if not blamed.isdisjoint(_OF_BEST_CHECKPOINT):
        return
    eval_strategy, save_strategy = args.get("eval_strategy", "no"), args.get("save_strategy", "steps")
    if args.get("load_best_model_at_end") and eval_strategy != save_strategy and save_strategy != "best":
        hint = f"set {KEY}={eval_strategy}"
        if eval_strategy == "no":
            hint = f"set trainer.args.eval_strategy={save_strategy}"
        text = (
            f"save_strategy ({save_strategy!r}) must match eval_strategy ({eval_strategy!r}) "
            "when load_best_model_at_end=true"
        )
        hint += ", or trainer.args.load_best_model_at_end=false"
        yield Problem("trainer.args.save_strategy", text, hint)
    elif args.get("load_best_model_at_end") and eval_strategy == save_strategy == "steps":
        eval_steps, save_steps = args.get("eval_steps") or args.get("logging_steps", 500), args.get("save_steps", 500)
        if isinstance(eval_steps, int) and isinstance(save_steps, int) and save_steps % eval_steps:
            text = (
                f"save_steps ({save_steps}) must be a multiple of eval_steps ({eval_steps}) "
                "when load_best_model_at_end=true"
            )
            yield Problem("trainer.args.save_steps", text, f"set {KEY}={eval_steps}")
    callbacks = select(plain, "trainer.callbacks")
    for name, callback in callbacks.items() if isinstance(callbacks, dict) else ():
        target = str(callback.get("_target_", "")) if isinstance(callback, dict) else ""
        if target.endswith("EarlyStoppingCallback") and not args.get("load_best_model_at_end"):
            text = "early stopping requires load_best_model_at_end=true"
            yield Problem(f"trainer.callbacks.{name}", text, "set trainer.args.load_best_model_at_end=true")
    objective, best_metric = plain.get("objective"), args.get("metric_for_best_model", plain.get("objective"))
    if best_metric != objective:
        text = f"metric_for_best_model ({display_value(best_metric)}) must match objective ({display_value(objective)})"
        metric = f"eval_{str(best_metric).removeprefix('eval_')}"
        hint = "leave it out" + (f", and set objective={metric}" if best_metric else "")
        yield Problem("trainer.args.metric_for_best_model", text, hint)


def _sending(args: Mapping[str, Any], blamed: set[str]) -> Iterator[Problem]:
    """Yield the errors of arguments that send the model or metrics to others."""
    if has_literal_secret(str(args.get("hub_model_id"))):
        text = f"{KEY} contains a secret of the environment"
        yield Problem("trainer.args.hub_model_id", text, f"set {KEY}=USER/NAME")
    if args.get("push_to_hub") and not args.get("hub_model_id") and "trainer.args.hub_model_id" not in blamed:
        text = f"{KEY} is required when push_to_hub=true"
        yield Problem("trainer.args.hub_model_id", text, f"set {KEY}=USER/NAME")
    reporters = args.get("report_to") or []
    if "mlflow" in ([reporters] if isinstance(reporters, str) else reporters):
        text = f"{KEY}=mlflow is not supported, because tracking=mlflow already records the run"
        yield Problem("trainer.args.report_to", text, "leave out mlflow")
