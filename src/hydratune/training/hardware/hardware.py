"""Use of the machine by a run: the settings that it chooses, and the log line that reports them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from hydratune.config.configurable import Configurable
from hydratune.training.hardware import choices
from hydratune.training.hardware.environment import ignore_other_launchers, is_rank, set_compile_cache
from hydratune.utils.batches import effective_batch_size
from hydratune.utils.errors import KEY, ConfigError, Problem, invalid_value, one_line
from hydratune.utils.machine import free_memory, machine

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer, TrainingArguments

log = logging.getLogger(__name__)

_IMAGES = "pixel_values"  # the input name of image models
# Read by cuBLAS and by flash attention; `:4096:8` is one of two values that make cuBLAS deterministic.
_REPEATABLE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "FLASH_ATTENTION_DETERMINISTIC": "1"}


@dataclass(kw_only=True)
class Hardware(Configurable):
    """Settings for the use of the machine; arguments that the user sets in `trainer.args` take precedence.

    A run calls `prepare` before it loads anything, and `alone` when it has training arguments. It calls `suit` when it
    has model and data, and `fit` when it has a Trainer.

    Args:
        device: `auto` uses a GPU if there is one; `cuda` requires one.
        precision: `auto` uses bf16 autocast if the processor supports bf16 natively, else fp32.
        eval_precision: Precision of evaluation and predictions; null for that of training, `fp32` for no autocast.
        threads: CPU threads of torch; null for as many cores as this process may use, by affinity and cgroup.
        dataloader_num_workers: DataLoader workers; null for none on a CPU and a few for a GPU.
        attn_implementation: Attention kernel; `auto` for the fastest, null for transformers' choice.
            `model.attn_implementation` takes precedence.
        torch_compile: Use of torch.compile; `auto` only if the run is long enough to make up for the compile time.
        dataloader_pin_memory: Whether batches are copied to the GPU from pinned memory; null for yes if there is a GPU.
        deterministic: Bit-exact repetition on the same machine, also on a GPU, where it is slower. Operations without a
            deterministic kernel raise an error.
        auto_micro_batch: Split batches that do not fit into memory, and accumulate gradients. The size is found before
            training.
        cpu_optimizations: Faster steps on a CPU (see `hydratune.training.trainer.cpu_speedups`).
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp16", "tf32", "fp32"] = "auto"
    eval_precision: Literal["fp32"] | None = None
    threads: int | None = None
    dataloader_num_workers: int | None = None
    attn_implementation: Literal["auto", "eager", "sdpa", "flash_attention_2", "flex_attention"] | None = "auto"
    torch_compile: Literal["auto"] | bool = "auto"
    dataloader_pin_memory: bool | None = None
    deterministic: bool = False
    auto_micro_batch: bool = True
    cpu_optimizations: bool = True
    _device: str = field(default="cpu", init=False, repr=False)
    _ignored_threads: str = field(default="", init=False, repr=False)
    _summary: list[str] = field(default_factory=list, init=False, repr=False)

    def check(self) -> Iterator[Problem]:
        """Yield errors that can be detected before heavy imports."""
        if self.threads is not None and self.threads < 1:
            yield invalid_value("threads", "null or at least 1", self.threads)
        if self.dataloader_num_workers is not None and self.dataloader_num_workers < 0:
            yield invalid_value("dataloader_num_workers", "null or at least 0", self.dataloader_num_workers)

    def prepare(self, given: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """Set up torch, and return training arguments.

        No settings of an earlier run in this process remain.

        Args:
            given: Arguments that the user has set. The result omits them and those that contradict them.

        Raises:
            ConfigError: If the machine does not have what is requested.
        """
        import torch

        ignore_other_launchers()  # before accelerate and transformers read them
        this_machine = machine()
        self._device = choices.device("cpu" if given.get("use_cpu") else self.device, this_machine)
        threads = choices.threads(self.threads, this_machine, _local_processes())
        precision = choices.precision(self.precision, self._device, this_machine, given)
        workers = choices.workers(self.dataloader_num_workers, self._device, this_machine)
        torch.set_num_threads(threads.value)
        typed = "" if self.threads or is_rank() else os.environ.get("OMP_NUM_THREADS", "")
        self._ignored_threads = "" if typed == str(threads.value) else typed
        repeat_exactly(self.deterministic)
        mode = {"tf32": "tf32", "fp32": "ieee"}.get(precision.value, "none")  # Trainer sets it, but does not reset it
        torch.backends.fp32_precision = mode
        on_gpu = self._device == "cuda"
        arguments = {
            "use_cpu": self._device == "cpu",
            "bf16": precision.value == "bf16",
            "fp16": precision.value == "fp16",
            "dataloader_num_workers": workers,
            "dataloader_persistent_workers": workers > 0,
            "dataloader_pin_memory": on_gpu if self.dataloader_pin_memory is None else self.dataloader_pin_memory,
        }
        name = {"cuda": this_machine.gpu.name if this_machine.gpu else "", "mps": "MPS"}.get(self._device, "CPU")
        threads_text = f"{threads.value} thread{'s' * (threads.value != 1)}" + (f" ({threads.why})" * bool(threads.why))
        self._summary = [name, *([] if on_gpu else [threads_text]), str(precision)]
        self._summary += [f"evaluation in {self.eval_precision}"] * bool(self.eval_precision)
        self._summary += [f"{workers} DataLoader workers"] * (workers > 0) + ["deterministic"] * self.deterministic
        return {name: value for name, value in arguments.items() if name not in _settled(given)}

    def use_one_gpu(self, args: TrainingArguments) -> None:
        """Use one GPU of several; over more, Trainer in one process would use torch's slow DataParallel."""
        if args.n_gpu > 1:
            self._summary.append(f"one of {args.n_gpu} GPUs (hardware=ddp uses all of them)")
            args._n_gpu = 1

    def configure_model(
        self, args: TrainingArguments, module: PreTrainedModel, rows: Any, given: Mapping[str, Any]
    ) -> None:
        """Choose settings that depend on the model and on the length of the run: attention kernel, torch.compile.

        Args:
            args: Training arguments of the run, before its Trainer exists.
            module: Model, without an adapter.
            rows: Training data.
            given: Settings of the user in `trainer.args` and `model`.

        Raises:
            ConfigError: If the model does not have the requested kernel.
        """
        bf16 = machine().bf16 if args.bf16 else ""
        input_name = module.main_input_name
        kernel = choices.attention(
            self.attn_implementation, self._device, module.config, bf16, partial(_longest, rows, input_name)
        )
        if kernel and given.get("attn_implementation") is None and module._can_set_attn_implementation():
            try:
                module.set_attn_implementation(kernel.value)
            except (ImportError, ValueError) as error:
                text = f"this model cannot use {KEY}={kernel.value} here: {one_line(error, 200)}"
                raise ConfigError(Problem("hardware.attn_implementation", text, f"set {KEY}=auto")) from error
            self._summary.append(f"{kernel.value} attention" + f" ({kernel.why})" * bool(kernel.why))
        if not any(name.startswith("torch_compile") for name in given):
            compiled = choices.compiles(
                self.torch_compile, self._device, _steps(args, rows), fixed_shapes=input_name == _IMAGES
            )
            args.torch_compile = compiled.value
            args.torch_compile_backend = "inductor" if compiled.value else None
            if compiled.value or compiled.why:
                message = "torch.compile" if compiled.value else "no torch.compile"
                self._summary.append(message + f" ({compiled.why})" * bool(compiled.why))
        if args.torch_compile:
            set_compile_cache()

    def fit_batch_size(self, trainer: Trainer, checkpoint: str | None = None) -> None:
        """Split batches that do not fit into memory; see `hydratune.training.hardware.batch_size`."""
        if self.auto_micro_batch:
            from hydratune.training.hardware.batch_size import fit_batch_size

            memory = free_memory()
            self._summary += fit_batch_size(trainer, memory and memory // _local_processes(), checkpoint)

    def log_summary(self) -> None:
        """Log one line with the choices since `prepare` and their reasons, and before it a setting that is ignored."""
        if self._ignored_threads:
            log.info("hardware: OMP_NUM_THREADS=%s is ignored; to use it, set hardware.threads", self._ignored_threads)
        log.info("hardware: %s", ", ".join(self._summary))


def repeat_exactly(wanted: bool) -> None:
    """Turn the deterministic kernels of torch on or off."""
    import torch

    torch.use_deterministic_algorithms(wanted)
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = False
    for name, value in _REPEATABLE.items():
        if wanted:
            os.environ.setdefault(name, value)
        elif os.environ.get(name) == value:
            del os.environ[name]


def _local_processes() -> int:
    """Return how many processes of the run share this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if is_rank() else 1


def _settled(arguments: Mapping[str, Any]) -> set[str]:
    """Return the arguments that the user has set, and those that would contradict them."""
    contradicted = {"fp16": ("bf16",), "bf16": ("fp16",), "dataloader_num_workers": ("dataloader_persistent_workers",)}
    return {*arguments, *(other for name, value in arguments.items() if value for other in contradicted.get(name, ()))}


def _longest(rows: Any, column: str) -> int | None:
    """Return the most tokens, or labels, of a row; 0 for images, None if unknown, as for a stream."""
    from hydratune.training.trainer.sampler import lengths

    if column == _IMAGES:
        return 0
    lengths_by_column = [lengths(rows, name) for name in (column, "labels")]
    return max((max(column_lengths) for column_lengths in lengths_by_column if column_lengths), default=None)


def _steps(args: TrainingArguments, rows: Any) -> int:
    """Return the number of steps of a run."""
    if args.max_steps > 0:
        return args.max_steps
    return int(args.num_train_epochs * len(rows) // effective_batch_size(args))
