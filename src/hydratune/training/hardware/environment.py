"""Environment variables by which launchers number the processes of a run; only those of our launcher count."""

from __future__ import annotations

import logging
import os

log = logging.getLogger(__name__)

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


def mark_as_rank() -> None:
    """Mark this process, but not its children, as one that `hydratune.training.launch` starts."""
    os.environ[_RANK_PID] = str(os.getpid())


def is_rank() -> bool:
    """Return whether `hydratune.training.launch` started this process, so that its launcher variables apply."""
    return os.environ.get(_RANK_PID) == str(os.getpid())


def ignore_other_launchers() -> None:
    """Remove the variables of other launchers, unless `hydratune.training.launch` started this process.

    A process that inherits them, as in a PyTorchJob pod or an `srun` shell, would wait forever for the others.
    """
    if is_rank():
        return
    names = sorted(name for name in os.environ if name in _NAMES or name.startswith(_PREFIXES))
    for name in names:
        del os.environ[name]
    if names:
        log.warning(
            "ignored environment variables of another launcher: %s; this process trains alone; set "
            "hardware=ddp to start several",
            ", ".join(names),
        )
