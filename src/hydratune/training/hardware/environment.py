"""Environment variables of a run's processes: numbers from launchers, and the directory of compiled kernels."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import tempfile
from pathlib import Path

from hydratune.utils.files import PRIVATE_FOLDER

log = logging.getLogger(__name__)

_COMPILE_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_RANK_PID = "HYDRATUNE_RANK_PID"
# Read by torch, accelerate, or transformers: torchrun, MPI, Slurm's PMI, `accelerate launch`, PyTorchJob.
_NAMES = {
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT"),
    *("GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "FORK_LAUNCHED"),
    *("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
}
_PREFIXES = (
    *("TORCHELASTIC_", "PET_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_"),
    *("ACCELERATE_", "PARALLELISM_CONFIG_", "FSDP_", "MEGATRON_LM_"),
)
_unlogged: set[str] = set()  # variables that were removed while logging was disabled


def mark_as_rank() -> None:
    """Mark this process, but not its children, as one that `hydratune.training.launch` starts."""
    os.environ[_RANK_PID] = str(os.getpid())


def is_rank() -> bool:
    """Return whether `hydratune.training.launch` started this process, so that its launcher variables apply."""
    return os.environ.get(_RANK_PID) == str(os.getpid())


def ignore_other_launchers() -> None:
    """Remove the variables of other launchers, unless `hydratune.training.launch` started this process.

    A process that inherits them, as in a PyTorchJob pod or an `srun` shell, would wait forever for the others. Checks
    before a run remove them while logging is disabled, so the run itself logs their names.
    """
    if is_rank():
        return
    names = [name for name in os.environ if name in _NAMES or name.startswith(_PREFIXES)]
    for name in names:
        del os.environ[name]
    _unlogged.update(names)
    if _unlogged and log.isEnabledFor(logging.WARNING):
        text = "ignored environment variables of another launcher: %s; only hardware=ddp starts several processes"
        log.warning(text, ", ".join(sorted(_unlogged)))
        _unlogged.clear()


def set_compile_cache() -> None:
    """Let torch.compile cache its kernels where other users cannot write.

    torch runs the code in its cache. By default, that is /tmp/torchinductor_USER, which others may have created.
    """
    if _COMPILE_CACHE in os.environ:
        return
    path = Path(tempfile.gettempdir()) / f"hydratune-torchinductor-{os.getuid()}"
    with contextlib.suppress(OSError):
        path.mkdir(PRIVATE_FOLDER)
    if not _is_private(path):
        path = Path.home() / ".cache" / "hydratune" / "torchinductor"
        path.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
    os.environ[_COMPILE_CACHE] = str(path)


def _is_private(path: Path) -> bool:
    """Return whether a path is a directory of this user, and no link, into which no one else may write."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
