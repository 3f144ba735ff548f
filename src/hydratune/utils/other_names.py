"""Names of settings in other tools, and short names, with the keys that they mean."""

from __future__ import annotations

# Key, group, override, or option of a command (`--out`) -> its other names, in lower case with underscores.
NAMES: dict[str, tuple[str, ...]] = {
    # training arguments
    "trainer.args.learning_rate": ("lr", "learningrate"),
    "trainer.args.num_train_epochs": ("ep", "epoch", "epochs", "n_epochs", "num_epochs", "max_epochs"),
    "trainer.args.max_steps": ("steps", "num_steps", "max_train_steps", "max_iters"),
    "trainer.args.per_device_train_batch_size": ("bs", "batch", "batch_size", "batchsize", "train_batch_size"),
    "trainer.args.per_device_eval_batch_size": ("eval_batch_size", "test_batch_size", "val_batch_size"),
    "trainer.args.gradient_accumulation_steps": (
        *("accum", "accumulation_steps", "accumulate_grad_batches"),
        *("grad_accum", "gradient_accumulation"),
    ),
    "trainer.args.warmup_steps": ("warmup", "warmup_ratio", "num_warmup_steps"),
    "trainer.args.lr_scheduler_type": ("sched", "scheduler", "lr_scheduler"),
    "trainer.args.optim": ("optimizer", "optimiser"),
    "trainer.args.weight_decay": ("wd", "weightdecay"),
    "trainer.args.max_grad_norm": ("clip", "grad_clip", "gradient_clip_val", "max_norm"),
    "trainer.args.label_smoothing_factor": ("smoothing", "label_smoothing"),
    "trainer/callbacks=[early_stopping]": ("early_stopping",),
    "trainer.callbacks.early_stopping.early_stopping_patience": ("patience", "early_stopping_patience"),
    # hardware
    "hardware.nproc_per_node": ("gpus", "num_gpus", "devices", "num_processes", "nproc", "nproc_per_node"),
    "hardware.dataloader_num_workers": ("num_workers", "dataloader_num_workers"),
    "hardware.precision": ("precision", "mixed_precision"),
    **{f"hardware.precision={name}": (name,) for name in ("bf16", "fp16", "tf32")},
    "hardware.auto_micro_batch": ("auto_find_batch_size",),
    "hardware.torch_compile": ("compile", "torch_compile"),
    "hardware=ddp": ("ddp",),
    "hardware=fsdp": ("fsdp", "deepspeed"),
    "hardware.fsdp_config": ("fsdp_config",),
    # model and adapter
    "model": ("base", "base_model", "model_id", "model_name", "model_name_or_path"),
    "model.dtype": ("torch_dtype",),
    "model.tokenizer": ("tokenizer_name",),
    "adapter=lora": ("use_lora", "use_peft", "peft"),
    "adapter=qlora": ("qlora", "load_in_4bit"),
    "adapter.config.r": ("rank", "lora_rank", "lora_r"),
    "adapter.config.lora_alpha": ("alpha", "lora_alpha"),
    "adapter.config.lora_dropout": ("lora_dropout",),
    "adapter.config.target_modules": ("lora_target_modules",),
    # data and task
    "dataset": ("data", "dataset_name"),
    "dataset.files.train": (
        *("data_path", "train_file", "train_data", "training_file"),
        *("file", "input", "input_file", "inputs"),
    ),
    "dataset.files.validation": ("validation_file", "validation_data", "val_file", "eval_file", "dev_file"),
    "dataset.files.test": ("test_file", "test_data"),
    "dataset.max_samples.train": ("limit", "max_rows", "max_samples", "max_train_samples"),
    "dataset.max_samples.validation": ("max_eval_samples", "max_val_samples"),
    "dataset.max_samples.test": ("max_test_samples", "max_predict_samples"),
    "dataset.validation_size": ("val_size", "val_split", "validation_split"),
    "dataset.columns.label": ("label", "label_col", "label_column", "target", "target_column"),
    "dataset.columns.text": ("text", "text_col", "text_column"),
    "task.max_length": ("len", "max_len", "max_length", "max_seq_len", "max_seq_length", "seq_len"),
    "cv.folds": ("folds", "k_folds", "n_folds", "num_folds"),
    # the run, its record, and sweeps
    "seed": ("random_seed", "manual_seed"),
    "resume": ("resume_from_checkpoint",),
    "hydra.run.dir": ("output_dir", "out_dir", "save_dir"),
    "tracking.uri": ("mlflow_uri", "tracking_uri"),
    "tracking.experiment_name": ("mlflow_experiment", "experiment_name"),
    "tracking.run_name": ("run_name",),
    "sweep.n_trials": ("trials", "n_trials", "num_trials"),
    "--multirun": ("sweep", "grid", "grid_search", "hparam_search", "hparams_search", "multi_run"),
    "--out": ("output", "output_file"),
}
# Beginning of keys that only one option of a group has -> the override that chooses the option.
_OPTIONS = {
    "adapter.config.": "adapter=lora",
    "dataset.columns.": "dataset=local",
    "dataset.files.": "dataset=local",
    "dataset.validation_size": "dataset=local",
    "hardware.fsdp_config": "hardware=fsdp",
    "hardware.nproc_per_node": "hardware=ddp",
    "trainer.callbacks.early_stopping.": "trainer/callbacks=[early_stopping]",
}
_MEANINGS = {name: meaning for meaning, names in NAMES.items() for name in names}


def meaning_of(name: str) -> str:
    """Return the key, group, override, or option that a name means; empty if the table does not have the name.

    >>> meaning_of("num-epochs")
    'trainer.args.num_train_epochs'
    """
    return _MEANINGS.get(name.replace("-", "_").lower(), "")


def option_of(key: str) -> str:
    """Return the override that chooses the option of a group that has a key; empty if the default option has it.

    >>> option_of("dataset.files.train")
    'dataset=local'
    """
    return next((option for begin, option in _OPTIONS.items() if key.startswith(begin)), "")
