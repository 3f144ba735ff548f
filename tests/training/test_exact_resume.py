"""A run says whether it goes on exactly, and why not."""

import json
import re
from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedDataParallelKwargs
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    default_data_collator,
)
from transformers.trainer_callback import ExportableState

from conftest import UPSTREAM
from hydratune.training.exact_resume import compare_conditions, exactness
from hydratune.training.trainer.checkpointing import CheckpointingMixin
from processes import hydratune
from stored_checkpoints import manifest, state_text
from tracked import runs


class Counts(TrainerCallback):
    """Remembers, and tells no checkpoint."""

    def __init__(self):
        self.steps = 0


class Tells(Counts, ExportableState):
    """Remembers, and tells checkpoints."""


ARGUMENTS = {
    "save_only_model": False,
    "restore_callback_states_from_checkpoint": True,
    "torch_compile": False,
    "dataloader_num_workers": 2,
    "dataloader_in_order": True,
    "world_size": 1,
}
ROWS = Dataset.from_dict({"x": [1]})


def made(
    kind=CheckpointingMixin, collator=default_data_collator, callbacks=(), device="cpu", rows=ROWS, ddp=None, **args
):
    """A trainer with nothing but what decides."""
    trainer = object.__new__(kind)
    trainer.args = SimpleNamespace(device=torch.device(device), **{**ARGUMENTS, **args})
    trainer.accelerator = SimpleNamespace(ddp_handler=DistributedDataParallelKwargs(**ddp or {}))
    trainer.train_dataset, trainer.data_collator = rows, collator
    trainer.callback_handler = SimpleNamespace(callbacks=callbacks)
    return trainer


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"kind": Trainer}, "Trainer does not save its full state (trainer._target_)"),
        ({"rows": iter(())}, "a stream resumes at another row (dataset.streaming)"),
        ({"device": "cuda"}, "GPU kernels are not deterministic (hardware.deterministic)"),
        ({"save_only_model": True}, "checkpoints lack the optimizer state (trainer.args.save_only_model)"),
        (
            {"rows": [1]},
            "rows of list may be random when they are read (dataset)",
        ),
        (
            {"rows": ROWS.with_transform(lambda batch: batch)},
            "rows of Dataset may be random when they are read (dataset)",
        ),
        (
            {"torch_compile": True},
            "compiled kernels depend on the shapes of earlier batches (hardware.torch_compile)",
        ),
        (
            {"dataloader_in_order": False},
            "DataLoader workers return batches in any order (trainer.args.dataloader_in_order)",
        ),
        (
            {"world_size": 3},
            "the first step after a resume adds gradients in another order (trainer.args.ddp_find_unused_parameters)",
        ),
        ({"collator": Counts()}, "Counts may be random (task)"),
        ({"collator": made}, "made may be random (task)"),
        (
            {"callbacks": [EarlyStoppingCallback()], "restore_callback_states_from_checkpoint": False},
            "EarlyStoppingCallback restarts without its state (trainer.args.restore_callback_states_from_checkpoint)",
        ),
        (
            {"callbacks": [Tells(), Counts()]},
            "checkpoints lack the state of Counts: it is not an ExportableState (trainer.callbacks)",
        ),
    ],
)
def test_what_is_not_exact(given, reason):
    """Each reason names what to change."""
    assert exactness(made(**given)) == f"no, because {reason}"


@pytest.mark.parametrize(("processes", "ddp"), [(2, {}), (3, {"find_unused_parameters": True})])
def test_exactness_of_several_processes(processes, ddp):
    """Two add in any order with the same result; more do where DDP leaves its buckets as they are."""
    assert exactness(made(world_size=processes, ddp=ddp)) == "yes"


def checkpoint(folder, step, best=None, **changes):
    """A checkpoint directory with what a comparison reads."""
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "manifest.json").write_text(json.dumps(asdict(manifest({}, **changes))))
    (path / "trainer_state.json").write_text(state_text(step, best_global_step=best))
    return str(path)


def resumed(folder, path, **conditions):
    """A trainer in `folder` that resumes from `path` under these conditions."""
    trainer = made(output_dir=str(folder))
    compare_conditions(trainer, path, conditions)
    return trainer


def test_compare_conditions_reports_each_change(tmp_path):
    """Another number of processes, or whatever else decides bits, is a reason; what stayed is none."""
    path = checkpoint(tmp_path, 7, conditions={"hardware.nproc_per_node": "2", "torch": "2.13", "gone": "1"})
    changed = resumed(tmp_path, path, **{"hardware.nproc_per_node": "1", "torch": "2.13"})
    reasons = ["gone changed from 1 to None at step 7", "hardware.nproc_per_node changed from 2 to 1 at step 7"]
    assert exactness(changed) == f"no, because {'; '.join(reasons)}"
    assert exactness(resumed(tmp_path, path, **{"hardware.nproc_per_node": "2", "torch": "2.13", "gone": "1"})) == "yes"


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("task.metrics", True),
        ("validation set", True),
        ("objective", True),
        ("trainer.args.label_smoothing_factor", True),
        ("hardware.eval_precision", True),
        ("config.layer_norm_eps", True),
        ("trainer.args.learning_rate", False),
        ("trainer.on_nan", False),
        ("hardware.threads", False),
        ("torch", False),
        ("code of my_package", False),
    ],
)
def test_compare_conditions_finds_those_of_scores(tmp_path, name, counts):
    """Another learning rate or machine does not make an earlier score incomparable."""
    path = checkpoint(tmp_path, 7, conditions={name: "1"})
    assert resumed(tmp_path, path, **{name: "2"}).changed_scoring == [name] * counts
    assert resumed(tmp_path, path, **{name: "1", "config.new_in_an_upgrade": "2"}).changed_scoring == []


def test_compare_conditions_remembers_changes(tmp_path):
    """A run that changed once is not exact after a second resume under the same conditions."""
    path = checkpoint(tmp_path, 9, conditions={"seed": "1"}, departures=["x changed at step 7"])
    assert exactness(resumed(tmp_path, path, seed="1")) == "no, because x changed at step 7"


def test_compare_conditions_reports_lost_best_weights(tmp_path):
    """An uninterrupted run could still end with them."""
    path = checkpoint(tmp_path, 9, best=5, conditions={})
    assert exactness(resumed(tmp_path, path)).startswith("no, because the best weights until step 9 are lost (")


def test_random_masks_of_transformers(tiny_model):
    """Its collator for masked language models draws from the state that torch happens to have."""
    collator = DataCollatorForLanguageModeling(AutoTokenizer.from_pretrained(tiny_model))
    assert exactness(made(collator=collator)).endswith("DataCollatorForLanguageModeling may be random (task)")


def test_kernels_that_repeat_themselves():
    """A GPU is exact where it is asked to be; and what remembers nothing, or tells it, is no reason."""
    torch.use_deterministic_algorithms(True)
    try:
        assert exactness(made(device="cuda", callbacks=[Tells(), TrainerCallback(), EarlyStoppingCallback()])) == "yes"
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("overrides", "reasons"),
    [
        ([], []),
        (
            [
                "dataset.streaming=true",
                "dataset.labels=[neg,pos]",
                "trainer.args.max_steps=1",
                *UPSTREAM[:2],
                "trainer._target_=transformers.Trainer",
            ],
            ["trainer._target_", "dataset.streaming"],
        ),
    ],
)
def test_a_run_says_so(train, toy, store, caplog, overrides, reasons):
    """In one line, with the key of each reason, and as a tag."""
    caplog.set_level("INFO")
    train(*toy, "trainer.args.num_train_epochs=0.1", *overrides)
    (line,) = (message for message in caplog.messages if message.startswith("resume: "))
    (run,) = runs(store)
    for text in (line, run.data.tags["exact"]):
        assert re.findall(r"\(([\w.]+)\)", text) == reasons
    assert ("not" in line, run.data.tags["exact"] == "yes") == (bool(reasons), not reasons)


@pytest.mark.slow
def test_resume_with_other_code_of_the_user_is_not_exact(toy, own_directory, store):
    """The code of a class that the config names is a condition, as a package is."""
    code = "from hydratune.training.trainer.trainer import Trainer\n\nclass Own(Trainer):\n    pass\n"
    (own_directory / "own_code.py").write_text(code)
    environment = {"PYTHONPATH": str(own_directory), "HYDRATUNE_ALLOW": "own_code"}
    stops = ["trainer._target_=own_code.Own", "trainer.args.save_strategy=epoch", "hydra.run.dir=outputs/run"]
    killed = f"import os\n{code}\n    def _save_checkpoint(self, *args):\n        super()._save_checkpoint(*args)\n"
    (own_directory / "own_code.py").write_text(f"{killed}        os._exit(9)\n")
    assert hydratune(*toy, *stops, **environment).returncode == 9
    (own_directory / "own_code.py").write_text(code)
    done = hydratune("resume", "outputs/run", **environment)
    assert done.returncode == 0, done.stderr
    assert "resume: not bit-exact, because code of own_code changed" in done.stderr
    assert runs(store)[0].data.tags["exact"].startswith("no")
