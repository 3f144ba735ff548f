"""Trainer mixin for saving and resuming: an interrupted run ends with the results of an uninterrupted one."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, Seq2SeqTrainer, TrainerState
from transformers.trainer_utils import SaveStrategy, rotate_checkpoints

from hydratune.training.hardware.batch_size import is_oom
from hydratune.training.trainer import checkpoint_files, lineage_file
from hydratune.training.trainer.callbacks import EvaluationInterruptedError
from hydratune.training.trainer.checkpoint_files import (
    MANIFEST,
    PREFIX,
    STATE,
    UNFINISHED,
    DiskFullError,
    LossState,
    Manifest,
    PendingEvaluation,
)
from hydratune.training.trainer.dataloader import protect_workers, seed_workers, set_epoch
from hydratune.utils import clock, hub
from hydratune.utils.errors import ConfigError, Problem, one_line
from hydratune.utils.files import make_directory, remove_file, remove_tree

log = logging.getLogger(__name__)

_PICKLE = "training_args.bin"


@contextmanager
def restoring(checkpoint: str | None) -> Iterator[None]:
    """Raise ConfigError if the state of a checkpoint does not fit the run, although its files are intact."""
    try:
        yield
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if checkpoint is None or is_oom(error):
            raise
        text = f"cannot resume from {checkpoint}: {type(error).__name__}: {one_line(error, 200)}"
        hint = "remove this checkpoint to resume from the previous one"
        raise ConfigError(Problem("resume", text, hint)) from error


class CheckpointingMixin(Seq2SeqTrainer):
    """Mixin that writes checkpoints atomically, and resumes from one without changing the results.

    Upstream has several gaps that this mixin closes:

    - It writes a checkpoint in place, file by file.
    - It loses the loss since the last log, the total loss, and the training time.
    - It trains one more step if a run had no steps left.
    - It takes the last weights for the best ones if the run directory was moved.
    - It pickles its arguments, which nothing here reads.
    """

    lineage: Mapping[str, str] = {}  # fingerprint of the training that checkpoints belong to, by names for the user
    conditions: Mapping[str, str] = {}  # other values that affect bit-exactness, by names for the user
    departures: Sequence[str] = ()  # changes of the conditions whenever the run was resumed
    changed_scoring: Sequence[str] = ()  # conditions of evaluation that differ from those of the resumed checkpoint
    leaves_weights = True  # whether the weights are used after the run has ended
    _staged: Path | None = None  # directory in which a checkpoint is being written
    # The interrupted evaluation that the last checkpoint lacks.
    _pending_evaluation: PendingEvaluation | None = None
    _resumed_from: str | None = None
    _has_run_epoch = False  # whether an epoch has run since the start or the resume

    # --- writing -----------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staged or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial))
        final = folder / f"{PREFIX}{self.state.global_step}"
        needed = self._checkpoint_bytes(folder)
        if self.args.should_save:
            # The parent, the directory of the run, exists, unless it was removed meanwhile.
            make_directory(folder, parents=False)
            checkpoint_files.make_room(folder, needed)
        self.accelerator.wait_for_everyone()
        # All processes write into the hidden directory; then the main process renames it.
        self._staged = folder / UNFINISHED
        try:
            super()._save_checkpoint(model, trial)
        except Exception as error:
            remove_tree(self._staged, ignore_errors=True)
            # Torch and safetensors raise errors of their own for a full disk.
            if folder.exists() and shutil.disk_usage(folder).free < needed:
                raise DiskFullError(f"the disk of {folder} is full; earlier checkpoints remain") from error
            raise
        finally:
            self._staged = None
        self.accelerator.wait_for_everyone()
        # If this checkpoint is the best one, upstream has set its path in the hidden directory.
        if self.state.best_model_checkpoint:
            self.state.best_model_checkpoint = str(folder / Path(self.state.best_model_checkpoint).name)
        loss = self._loss_until_now()
        if self.args.should_save:
            written = folder / UNFINISHED / final.name
            self._write_state(written / STATE)
            remove_file(written / _PICKLE)
            manifest = Manifest(self.lineage, loss, self.conditions, (*self.departures,), self._pending_evaluation)
            checkpoint_files.commit(written, final, manifest)
            (folder / UNFINISHED).rmdir()
            self._rotate(folder)
        self.accelerator.wait_for_everyone()

    def _write_state(self, path: Path) -> None:
        """Write the state without the path of the best checkpoint, which its step implies.

        The path would be wrong once the run directory is moved, and upstream would warn of it.
        """
        best, self.state.best_model_checkpoint = self.state.best_model_checkpoint, None
        self.state.save_to_json(str(path))
        self.state.best_model_checkpoint = best

    def _rotate(self, folder: Path) -> None:
        """Delete the oldest checkpoints beyond `save_total_limit`, but not the best one."""
        best_checkpoint, limit = self.state.best_model_checkpoint, self.args.save_total_limit
        rotate_checkpoints(str(folder), save_total_limit=limit, best_model_checkpoint=best_checkpoint)

    def _checkpoint_bytes(self, folder: Path) -> int:
        """Estimate the size of a checkpoint in bytes.

        It is the size of the last checkpoint. Without one, it is the saved weights plus two AdamW moments for each
        trainable one.
        """
        for checkpoint in checkpoint_files.list_checkpoints(folder):
            return sum(path.stat().st_size for path in checkpoint.rglob("*") if path.is_file())
        weights = list(self.model.parameters())
        is_whole_model = isinstance(self.model, PreTrainedModel)  # an adapter is saved without its base model
        return sum(
            weight.numel() * weight.element_size() * (is_whole_model + (3 - is_whole_model) * weight.requires_grad)
            for weight in weights
        )

    def _loss_until_now(self) -> LossState:
        since = self.accelerator.gather(self._tr_loss.detach().reshape(1)).mean().item()
        seconds = self._seconds_before + clock.time() - self._began
        return LossState(since, self._total_loss_scalar, self._globalstep_last_logged, seconds)

    @property
    def resumes_evaluation(self) -> bool:
        """Return whether an interrupted evaluation can run after a resume without changing the random numbers."""
        samples = getattr(getattr(self.model, "generation_config", None), "do_sample", False)
        return not (samples and getattr(self.args, "predict_with_generate", False))

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        saves = self.control.should_save and self.args.save_strategy != SaveStrategy.BEST
        try:
            super()._maybe_log_save_evaluate(*args, **kwargs)
        except EvaluationInterruptedError:
            self._pending_evaluation = PendingEvaluation(saves)
            self.control.should_evaluate, self.control.should_save = False, True
            super()._maybe_log_save_evaluate(*args, **kwargs)  # `PreemptionCallback` ends the run once it has saved

    # --- resuming ----------------------------------------------------------------------------------------

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        self._began, self._seconds_before, self._has_run_epoch = clock.time(), 0.0, False
        self._resumed_from = checkpoint = kwargs.get("resume_from_checkpoint", args[3] if len(args) > 3 else None)
        with restoring(checkpoint):
            epochs_and_steps: tuple[int, int] = super()._init_training_state(*args, **kwargs)
        if checkpoint is not None and (Path(checkpoint) / MANIFEST).is_file():
            self._pending_evaluation = checkpoint_files.read(Path(checkpoint)).pending_evaluation
        if self.state.global_step:  # upstream would evaluate the start again, and callbacks would count it twice
            self.args.eval_on_start = False
        best = self.state.best_global_step
        # Upstream reads the stored path, which is wrong after a move and may be someone else's.
        self.state.best_model_checkpoint = str(self._checkpoint_of(best)) if best else None
        if best and (damage := checkpoint_files.find_damage(self._checkpoint_of(best))):
            log.warning("skipped the best checkpoint so far (step %s): %s; only later ones are compared", best, damage)
            self._forget_best()
        if self.changed_scoring:
            self._forget_scores()
        return epochs_and_steps

    def _forget_best(self) -> None:
        self.state.best_metric = self.state.best_model_checkpoint = self.state.best_global_step = None

    def _forget_scores(self) -> None:
        """Remove all evaluations until the checkpoint, since their scores cannot be compared with later ones."""
        if best := self.state.best_global_step:
            text = lineage_file.forgotten_text(self.changed_scoring)
            log.warning("skipped the best checkpoint so far (step %s): %s", best, text)
        self._forget_best()
        self.state.log_history = lineage_file.without_evaluations(self.state.log_history)

    def _evaluate_pending(self, trial: Any, start_time: float, ignore_keys: list[str] | None = None) -> None:
        """Run the interrupted evaluation, and save a checkpoint if one was due, before the next step."""
        pending, self._pending_evaluation = self._pending_evaluation, None
        if not pending:
            return
        self._load_rng_state(self._resumed_from)  # upstream calls it only after this evaluation
        self.control.should_evaluate, self.control.should_save = True, pending.save
        epoch = float(self.state.epoch or 0)
        self._maybe_log_save_evaluate(self._tr_loss, None, self.model_wrapped, trial, epoch, ignore_keys, start_time)

    def _checkpoint_of(self, step: int) -> Path:
        name = f"{PREFIX}{step}".replace("/", "_")  # a foreign state could contain a path here
        return Path(self.args.output_dir) / name

    def best_is_lost(self, checkpoint: str) -> str | None:
        """Return why the best weights until a checkpoint cannot be read; None if they can, or if none were best."""
        best = TrainerState.load_from_json(str(Path(checkpoint) / STATE)).best_global_step
        return checkpoint_files.find_damage(self._checkpoint_of(best)) if best else None

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with restoring(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with restoring(checkpoint):
            super()._load_rng_state(checkpoint)
        if checkpoint is None or not (Path(checkpoint) / MANIFEST).is_file():
            return
        loss = checkpoint_files.read(Path(checkpoint)).loss
        self._tr_loss = torch.tensor(loss.since_last_log, device=self.args.device)
        self._total_loss_scalar, self._globalstep_last_logged = loss.until_last_log, loss.last_log
        self._seconds_before, self._initial_global_step = loss.seconds, 0

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> Any:
        loader = super()._get_dataloader(*args, **kwargs)
        seed_workers(loader, self.args.seed)
        protect_workers(loader)
        return loader

    def _run_epoch(self, **kwargs: Any) -> None:
        self._has_run_epoch = True
        self._evaluate_pending(kwargs["trial"], kwargs["start_time"], kwargs["ignore_keys_for_eval"])
        if self.control.should_training_stop:
            return
        if self.state.global_step >= self.state.max_steps:  # all steps are done; only the end of training is missing
            self.control.should_training_stop = True
            return
        set_epoch(kwargs["train_dataloader"], kwargs["epoch"], self.args.seed)  # a resumed loader shares the samplers
        super()._run_epoch(**kwargs)

    def _finalize_training(self, trial: Any, num_train_samples: int, start_time: float) -> Any:
        if self._resumed_from and not self._has_run_epoch:  # the checkpoint is from the end of the last epoch
            self._load_rng_state(self._resumed_from)
            self._evaluate_pending(trial, start_time)
        # Upstream adds this process's loss since the last log to a sum over all processes.
        self._tr_loss = self.accelerator.gather(self._tr_loss.detach().reshape(1)).mean()
        if not self.leaves_weights:  # the caller removes all of them
            self.args.save_total_limit = None
        return super()._finalize_training(trial, num_train_samples, start_time - self._seconds_before)

    # --- reading weights ---------------------------------------------------------------------------------

    def _load_best_model(self) -> None:
        if not self.leaves_weights or self.state.best_global_step == self.state.global_step:  # already in memory
            return
        self._load_weights(str(self.state.best_model_checkpoint))

    def _load_weights(self, checkpoint: str) -> None:
        """Read the weights of a checkpoint of this run into the model."""
        if self._reads_back():
            self._read_back(checkpoint)
            return
        best, self.state.best_model_checkpoint = self.state.best_model_checkpoint, checkpoint
        try:
            super()._load_best_model()
        finally:
            self.state.best_model_checkpoint = best

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self._reads_back() and model in (None, self.model):
            self._read_back(resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _reads_back(self) -> bool:
        """Return whether the weights are in files of `save_pretrained`, not in adapters or shards of an engine."""
        return isinstance(self.model, PreTrainedModel) and not (self.is_deepspeed_enabled or self.is_fsdp_enabled)

    def _read_back(self, folder: str) -> None:
        """Read weights by their names in the files.

        Upstream assumes that names in files and in memory are the same, and so reads only a few parameters of a ViT.
        """
        hub.check_no_adapter("checkpoint", folder)
        saved, loaded = type(self.model).from_pretrained(
            folder,
            config=self.model.config,
            trust_remote_code=False,
            dtype=self.model.dtype,
            use_safetensors=True,
            output_loading_info=True,
        )
        if missing := sorted(loaded["missing_keys"]):
            raise RuntimeError(f"{folder} lacks weights: {missing}")
        self.model.load_state_dict(saved.state_dict())
