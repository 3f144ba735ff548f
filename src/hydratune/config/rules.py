"""Rules for the values of a config: bounds of numbers, and keys that depend on each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hydratune.utils.errors import Mistake, Problem
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
# Rejected argument -> (valid value with the reason, fix). Each of them silently loses or spoils work.
REFUSED = {
    "auto_find_batch_size": (
        "false, since it begins again with weights that are half trained",
        "Leave it out: hardware.auto_micro_batch=true finds what fits before training.",
    ),
    "bf16_full_eval": (
        "false, since it rounds the weights that the run saves",
        "Leave it out: hardware.precision=bf16 evaluates in bf16 too.",
    ),
    "deepspeed": (
        "null, since its checkpoints are pickles and its config says where files are written",
        "Set hardware=fsdp, which splits the weights among GPUs too.",
    ),
    "enable_jit_checkpoint": (
        "false, since it saves before the step is finished",
        "Leave it out: a signal ends a run after its step and a checkpoint.",
    ),
    "fp16_full_eval": (
        "false, since it rounds the weights that the run saves",
        "Leave it out: hardware.precision=fp16 evaluates in fp16 too.",
    ),
    "ignore_data_skip": (
        "false, since a run that goes on would see rows twice",
        "Leave it out: going on takes seconds.",
    ),
    "trackio_space_id": (
        "null, since trackio sends the user's token of the Hub to that Space",
        "Leave it out.",
    ),
    "resume_from_checkpoint": (
        "nothing, since a run goes on from its own checkpoints",
        "Run `hydratune resume RUN`, or set model.pretrained_model_name_or_path to its weights.",
    ),
}
_ABOVE_ZERO = ("eval_steps", "logging_steps", "num_train_epochs", "save_steps")
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
        yield Mistake("name", "text on one line without a slash", repr(name), "It names a folder: set name=my_run.")
    if isinstance(seed, int) and not 0 <= seed < SEEDS:
        yield Mistake("seed", f"a whole number from 0 to {SEEDS - 1}", repr(seed), "Set seed=42.")
    if plain.get("resume") not in (None, "auto"):
        fix = "A run that you can name goes on with: hydratune resume RUN."
        yield Mistake("resume", "auto or null", repr(plain["resume"]), fix)
    if (partial := select(plain, "trainer._partial_")) is not True:
        fix = "Set trainer._partial_=true."
        yield Mistake("trainer._partial_", "true, since the run completes the Trainer", repr(partial), fix)
    for key, lowest in LOWEST.items():
        value = select(plain, f"trainer.args.{key}")
        strict = key in _ABOVE_ZERO
        if isinstance(value, int | float) and (value <= lowest if strict else value < lowest):
            expected = f"a number above {lowest}" if strict else f"a number from {lowest}"
            yield Mistake(f"trainer.args.{key}", expected, repr(value), "Raise it.")
        elif key in _BELOW_ONE and isinstance(value, int | float) and value >= 1:
            yield Mistake(f"trainer.args.{key}", "a number from 0 to below 1", repr(value), "Lower it.")
    if isinstance(workers := select(plain, "trainer.args.dataloader_num_workers"), int) and workers > _MOST_WORKERS:
        expected = f"a number to {_MOST_WORKERS}"
        yield Mistake("trainer.args.dataloader_num_workers", expected, repr(workers), "Lower it.")
    steps = select(plain, "trainer.args.max_steps")
    if isinstance(steps, int) and (steps < -1 or steps == 0):
        expected = "a number of steps, or -1 for those of num_train_epochs"
        yield Mistake("trainer.args.max_steps", expected, repr(steps), "Set trainer.args.max_steps=-1.")


def refused_arguments(args: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield an error for each of `trainer.args` that no run may have, such as names of files with settings."""
    for name, (expected, fix) in REFUSED.items():
        if args.get(name):
            yield Mistake(f"trainer.args.{name}", expected, repr(args[name]), fix)
    if isinstance(args.get("accelerator_config"), str):
        fix = "Write the settings themselves: trainer.args.accelerator_config={split_batches: true}."
        yield Mistake("trainer.args.accelerator_config", "settings, not a file", repr(args["accelerator_config"]), fix)


def agreement(plain: Mapping[str, Any], blamed: set[str]) -> Iterator[Problem]:
    """Yield an error for each setting that Trainer would reject, or would accept with another meaning."""
    args = select(plain, "trainer.args")
    if not isinstance(args, dict):
        return
    args = {name: value for name, value in args.items() if f"trainer.args.{name}" not in blamed}
    is_our_trainer = str(select(plain, "trainer._target_")).startswith("hydratune.")
    if is_our_trainer and str(args.get("_target_")).endswith(".TrainingArguments"):
        fix = "Leave it out, or set trainer._target_=transformers.Trainer ~trainer.on_nan ~trainer.max_skipped."
        expected = "transformers.Seq2SeqTrainingArguments, which adds generation"
        yield Mistake("trainer.args._target_", expected, repr(args["_target_"]), fix)
    yield from refused_arguments(args)
    if select(plain, "hardware.eval_precision") and select(plain, "hardware.fsdp_config"):
        expected = "null with hardware.fsdp_config, which casts weights itself"
        yield Mistake("hardware.eval_precision", expected, "'fp32'", "Leave it out, or set hardware.precision=fp32.")
    eval_strategy, save_strategy = args.get("eval_strategy", "no"), args.get("save_strategy", "steps")
    if args.get("load_best_model_at_end") and eval_strategy != save_strategy and save_strategy != "best":
        fix = f"Set trainer.args.save_strategy={eval_strategy}, or load_best_model_at_end=false."
        if eval_strategy == "no":
            fix = f"Set trainer.args.eval_strategy={save_strategy}, or load_best_model_at_end=false."
        expected = f"eval_strategy ({eval_strategy!r}), so that the best checkpoint can be kept"
        yield Mistake("trainer.args.save_strategy", expected, repr(save_strategy), fix)
    elif args.get("load_best_model_at_end") and eval_strategy == save_strategy == "steps":
        eval_steps, save_steps = args.get("eval_steps") or args.get("logging_steps", 500), args.get("save_steps", 500)
        if isinstance(eval_steps, int) and isinstance(save_steps, int) and save_steps % eval_steps:
            expected = f"a multiple of eval_steps ({eval_steps}), so that the best checkpoint can be kept"
            fix = f"Set trainer.args.save_steps={eval_steps}."
            yield Mistake("trainer.args.save_steps", expected, repr(save_steps), fix)
    if args.get("predict_with_generate") is False and str(select(plain, "task._target_")).endswith(".Seq2Seq"):
        expected = "true, since the task scores what is generated"
        yield Mistake("trainer.args.predict_with_generate", expected, "false", "Leave it out.")
    dataset = select(plain, "dataset")
    sources = [dataset, *(select(plain, "dataset.sources") or {}).values()]
    if (
        any(isinstance(node, dict) and node.get("streaming") is True for node in sources)
        and not (args.get("max_steps") or 0) > 0
    ):
        fix = "Set trainer.args.max_steps=10000."
        yield Mistake("trainer.args.max_steps", "a number of steps, since a stream has no end", "none", fix)
    callbacks = select(plain, "trainer.callbacks")
    for name, callback in callbacks.items() if isinstance(callbacks, dict) else ():
        target = str(callback.get("_target_", "")) if isinstance(callback, dict) else ""
        if target.endswith("EarlyStoppingCallback") and not args.get("load_best_model_at_end"):
            got, fix = "load_best_model_at_end=false", "Set trainer.args.load_best_model_at_end=true."
            yield Mistake(f"trainer.callbacks.{name}", "a best checkpoint to compare with", got, fix)
    if has_literal_secret(str(args.get("hub_model_id"))):
        fix = "Set trainer.args.hub_model_id=YOU/NAME."
        yield Mistake("trainer.args.hub_model_id", "the name of a repository", "a secret of the environment", fix)
    if args.get("push_to_hub") and not args.get("hub_model_id"):
        fix = "Set trainer.args.hub_model_id=YOU/NAME."
        yield Mistake("trainer.args.hub_model_id", "the name of a repository to push to", "none", fix)
    objective, best_metric = plain.get("objective"), args.get("metric_for_best_model", plain.get("objective"))
    if best_metric != objective:
        fix = f"Set objective={best_metric}." if best_metric else "Leave it at ${objective}."
        yield Mistake("trainer.args.metric_for_best_model", f"the objective {objective!r}", repr(best_metric), fix)
    reporters = args.get("report_to") or []
    if "mlflow" in ([reporters] if isinstance(reporters, str) else reporters):
        fix = "Set trainer.args.report_to=none; the group `tracking` records runs in MLflow."
        yield Mistake("trainer.args.report_to", "a tracker other than mlflow", "'mlflow'", fix)
