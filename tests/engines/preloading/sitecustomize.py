"""Fork the ranks of a Slurm job from the process that starts them, which halves their CPU time; see tests/preloaded.py.

Python imports this module by itself when a process of the job starts, since its folder is in PYTHONPATH.
"""

import importlib
import sys

_IMPORTED = (
    "hydratune.training.run",
    "hydratune.training.trainer.cpu_speedups",
    "hydratune.training.trainer.trainer",
    "transformers.models.bert.modeling_bert",
)


def _starts_ranks(command: list[str]) -> bool:
    is_run = any(word.endswith("/hydratune") for word in command[:2]) and "hardware=ddp" in command
    return (is_run and "-m" not in command) or "submitit.core._submit" in command


if _starts_ranks(sys.orig_argv):
    import preloaded

    if not preloaded.is_installed():
        for name in _IMPORTED:
            importlib.import_module(name)
        preloaded.install()
