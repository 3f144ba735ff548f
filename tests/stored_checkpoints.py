"""Files of checkpoints that nobody trained."""

import json

from hydratune.training.trainer.checkpoint_files import LossState, Manifest

STATE = {
    "best_global_step": None,
    "best_metric": None,
    "best_model_checkpoint": None,
    "epoch": 1.0,
    "global_step": 0,
    "log_history": [],
    "num_input_tokens_seen": 0,
    "stateful_callbacks": {},
    "total_flos": 0.0,
    "train_batch_size": 8,
}


def manifest(lineage, **changes):
    """Return the manifest of a checkpoint with this lineage, for `commit`."""
    values = {"loss": LossState(0.0, 0.0, 0, 1.0), "conditions": {}, "departures": (), **changes}
    return Manifest(lineage, **values)


def state_text(step, **changes):
    """Return the text of the `trainer_state.json` of a step; its length is always 700."""
    return json.dumps({**STATE, "global_step": step, **changes}).ljust(700)
