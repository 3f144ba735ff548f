"""Push of a run's model to the Hugging Face Hub."""

from __future__ import annotations

import logging
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from hydratune.training import model_card
from hydratune.utils import hub
from hydratune.utils.errors import ConfigError
from hydratune.utils.files import MODEL
from hydratune.utils.provenance import cli_path

log = logging.getLogger(__name__)

TAG = "hub_url"  # tag of a run in MLflow


@dataclass(frozen=True)
class Push:
    """Upload of a run's model to the Hub.

    Args:
        directory: Run directory.
        repo_id: `NAME` or `OWNER/NAME`.
        private: Whether the repository is private; null for the owner's default.
        token: Token of the Hub; null for that of `hf auth login` or HF_TOKEN.
    """

    directory: Path
    repo_id: str
    private: bool | None = True
    token: str | None = None

    def send(self) -> str:
        """Upload what the Hub lacks, and return the repository's address; raise ConfigError or PushError."""
        full_repo_id = hub.make_repository(self.repo_id, self.private, self.token)
        model_card.point_to(self.directory / MODEL, full_repo_id)
        return hub.upload(self.directory / MODEL, full_repo_id, self.token)

    def try_send(self) -> str | None:
        """Upload the model, and return the address; return None after a failure, since the run itself is complete.

        A failure is logged with the command that pushes later.
        """
        try:
            url = self.send()
        except (ConfigError, hub.PushError) as error:
            push_command = shlex.join([cli_path(), "push", os.path.relpath(self.directory), "--to", self.repo_id])
            log.error("hub: the model is saved but was not pushed: %s\nhub: to push it later: %s", error, push_command)
            return None
        log.info("hub: pushed to %s", url)
        return url
