"""What can be checked without rows and weights: `--dry-run` and a run report the same errors, before anything is written."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from hydratune.cli.main import dispatch
from hydratune.models.pretrained import Pretrained
from hydratune.utils.errors import ConfigError
from hydratune.utils.machine import visible_gpus
from stored_checkpoints import manifest

WANDB = "+trainer.callbacks.w._target_=transformers.integrations.WandbCallback"
PROBLEMS = {
    ("adapter=lora", "adapter.config.r=0"): ["adapter.config"],
    ("adapter=lora", "adapter.config.target_modules=[nope]"): ["adapter.config"],
    ("model.freeze=[embeding]",): ["model.freeze"],
    ("model.freeze=['*']",): ["model.freeze"],
    ("task=causal_lm",): ["model"],
    ("task=seq2seq", "dataset.columns.source=text", "dataset.columns.target=label"): ["model"],
    ("trainer.args.report_to=wandb",): ["trainer.args.report_to"],
    (WANDB,): ["trainer.callbacks.w._target_"],
    ("trainer.args.lr_scheduler_type=reduce_lr_on_plateau", "trainer.args.lr_scheduler_kwargs={nope: 1}"): [
        "trainer.args.lr_scheduler_type"
    ],
    ("model.config.hidden_size=17",): ["model.config"],
    ("model.config.hiden_size=16",): ["model.config.hiden_size"],
    ("model.attn_implementation=flash_attention_2",): ["model.attn_implementation"],
    ("task=regression", "dataset.columns.label=[label,text]"): ["dataset.columns.label"],
    ("hardware=gpu",): ["hardware.device"],
    ("adapter=lora", "adapter.config.r=0", "trainer.args.report_to=wandb", "model.freeze=[nope]"): [
        "model.freeze",
        "adapter.config",
    ],
    ("trainer.args.fp16=true", "trainer.args.bf16=true", "model.freeze=[nope]"): ["trainer.args", "model.freeze"],
}


@pytest.mark.parametrize("flags", [["--dry-run"], [], ["-m", "seed=1,2", "--dry-run"]], ids=["dry", "run", "sweep"])
@pytest.mark.parametrize("overrides", PROBLEMS, ids=" ".join)
def test_error_is_found_before_anything_is_written(overrides, flags, toy, own_directory, capsys):
    """The dry run, the run, and the dry run of a sweep name the same keys, and no directory is created."""
    if overrides == ("hardware=gpu",) and visible_gpus():
        pytest.skip("this machine has a GPU")
    before = sorted(own_directory.iterdir())
    with pytest.raises(ConfigError) as caught:
        dispatch([*flags, *toy, "tracking=none", *overrides])
    assert list(dict.fromkeys(problem.key for problem in caught.value.problems)) == PROBLEMS[overrides]
    assert sorted(own_directory.iterdir()) == before
    assert "run: " not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], "frozen parameters"),
        (["model.freeze=[embeddings]"], "weights"),
        (["hardware=ddp", "hardware.device=cpu"], "communication and sharding of several processes"),
    ],
)
def test_dry_run_says_what_it_did_not_check(overrides, name, toy, capsys):
    """Each check is listed once: as made, or as left to the run."""
    assert dispatch(["--dry-run", *toy, *overrides]) == 0
    lines = dict(line.split(": ") for line in capsys.readouterr().out.splitlines()[1:])
    checked, unchecked = (lines[key].split(", ") for key in ("checked", "not checked"))
    assert (name in unchecked) or (not overrides and name not in checked)
    assert ("frozen parameters" in checked) == ("model.freeze=[embeddings]" in overrides)
    assert not {*checked} & {*unchecked}


@pytest.mark.parametrize("most_bytes", [0, 10_000_000])
def test_dry_run_reads_the_rows_of_small_local_files(most_bytes, toy, capsys, monkeypatch):
    """The output says whether the rows were checked."""
    monkeypatch.setattr("hydratune.training.preflight.MOST_BYTES", most_bytes)
    assert dispatch(["--dry-run", *toy]) == 0
    lines = dict(line.split(": ") for line in capsys.readouterr().out.splitlines()[1:])
    assert ("rows" in lines["checked"].split(", "), "rows" in lines["not checked"].split(", ")) == (
        most_bytes > 0,
        most_bytes == 0,
    )


@pytest.mark.parametrize("flags", [["--dry-run"], ["-m", "seed=1,2", "--dry-run"]], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("overrides", "key", "word"),
    [
        (["task=regression"], "dataset.columns.label", "set task=sequence_classification"),
        (["dataset.files.train=three.jsonl", "objective=eval_f1"], "objective", "3 labels"),
    ],
)
def test_dry_run_finds_what_only_rows_show(overrides, key, word, flags, toy, own_directory):
    """Text labels of a regression; a metric of two labels for data with three."""
    rows = [{"text": f"a {label}", "label": label} for label in ("pos", "neg", "mid") for _ in range(3)]
    (own_directory / "three.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ConfigError) as caught:
        dispatch([*flags, *toy, *overrides])
    assert {problem.key for problem in caught.value.problems} == {key}  # one error for each split
    assert word in str(caught.value.problems[0])


@pytest.mark.parametrize("length", [10, 100_000])
def test_dry_run_warns_of_inputs_longer_than_the_model_reads(length, toy, capsys):
    """The rows would be cut to fewer tokens than the user asked for."""
    assert dispatch(["--dry-run", f"task.max_length={length}", *toy]) == 0
    assert (f"task.max_length={length}" in capsys.readouterr().out) is (length == 100_000)


def test_dry_run_does_not_build_a_model_of_the_user(toy, own_directory, monkeypatch, capsys):
    """Code of the user may load weights in any step, so its architecture is not among the checks."""
    lines = ["from dataclasses import dataclass", "from hydratune.models.pretrained import Pretrained"]
    lines += ["@dataclass(kw_only=True)", "class Own(Pretrained):", "    pass"]
    (own_directory / "own_model.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(own_directory)
    monkeypatch.setenv("HYDRATUNE_ALLOW", "own_model")
    assert dispatch(["--dry-run", *toy, "model._target_=own_model.Own"]) == 0
    lines = dict(line.split(": ") for line in capsys.readouterr().out.splitlines()[1:])
    assert "architecture of custom code" in lines["not checked"].split(", ")
    assert "architecture" not in lines["checked"].split(", ")


@pytest.mark.parametrize("key", ["model.freeze", "adapter.config.r"])
def test_each_value_of_a_sweep_is_checked(key, toy):
    """One bad value among several is found."""
    values = {"model.freeze": "[],[embeddings],[nope]", "adapter.config.r": "4,0"}[key]
    with pytest.raises(ConfigError) as caught:
        dispatch(["-m", "--dry-run", *toy, "adapter=lora", f"{key}={values}"])
    assert [problem.key for problem in caught.value.problems] == [key.removesuffix(".r")]


def test_scratch_model_is_checked(toy_files, tiny_gpt):
    """Sizes that do not fit together are an error, not a traceback."""
    with pytest.raises(ConfigError) as caught:
        dispatch([*toy_files, "task=causal_lm", *tiny_gpt, "model.config.n_head=3", "tracking=none"])
    assert [problem.key for problem in caught.value.problems] == ["model.config"]


def test_resume_with_another_seed(own_directory):
    """It is refused by the manifests of the checkpoints, before torch is imported; `--dry-run` checks it too."""
    stored = own_directory / "run" / ".hydra"
    checkpoint = own_directory / "run" / "checkpoints" / "checkpoint-2"
    for folder in (stored, checkpoint):
        folder.mkdir(parents=True)
    (stored / "hydra.yaml").write_text(f"hydra: {{runtime: {{cwd: {own_directory}, config_sources: []}}}}\n")
    (stored / "overrides.yaml").write_text("[tracking=none]\n")
    (checkpoint / "manifest.json").write_text(json.dumps(asdict(manifest({"seed": "42"}))))
    before = sorted(Path("run").rglob("*"))
    for more in ([], ["--dry-run"]):
        with pytest.raises(ConfigError) as caught:
            dispatch(["resume", "run", "seed=3", *more])
        assert [problem.key for problem in caught.value.problems] == ["seed"]
    assert sorted(Path("run").rglob("*")) == before


def test_dry_run_leaves_the_process_as_it_was(toy):
    """Logging and warnings work afterwards."""
    import logging

    assert dispatch(["--dry-run", *toy]) == 0
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["trainer.args.lr_scheduler_type=nope"], "trainer.args.lr_scheduler_type"),
        (["trainer.args.report_to=wandb"], "trainer.args.report_to"),
        (["trainer.args.per_device_train_batch_size=1"], "trainer.args.per_device_train_batch_size"),
    ],
)
@pytest.mark.parametrize("hardware", ["ddp", "fsdp"])
def test_dry_run_checks_the_arguments_of_several_processes(hardware, overrides, key, toy):
    """What each process would refuse, and a batch that the processes cannot share."""
    with pytest.raises(ConfigError) as caught:
        dispatch(["--dry-run", *toy, "tracking=none", f"hardware={hardware}", "hardware.device=cpu", *overrides])
    assert [problem.key for problem in caught.value.problems] == [key]


def test_run_loads_config_and_tokenizer_once(toy, monkeypatch):
    """The run uses what the checks before it have loaded."""
    calls = []
    for name in ("load_config", "load_processor"):
        original = getattr(Pretrained, name)

        def load(self, *args, original=original, name=name):
            calls.append(name)
            return original(self, *args)

        monkeypatch.setattr(Pretrained, name, load)
    assert dispatch([*toy, "tracking=none", "trainer.args.max_steps=1"]) == 0
    assert calls == ["load_config", "load_processor"]


def test_run_logs_notes_of_the_checks(toy):
    """The checks log nothing; what they have to say of the tokenizer is in the run's log, once."""
    typed = ["model.config.pad_token_id=1", "trainer.args.max_steps=1", "hydra.run.dir=run"]
    assert dispatch([*toy, "tracking=none", *typed]) == 0
    assert next(Path("run").glob("*.log")).read_text().count("model: pads with 0") == 1


@pytest.mark.parametrize("command", [["-n"], ["check"], ["-m", "-n", "seed=1,2"]])
@pytest.mark.parametrize(("rate", "is_warned"), [("1e5", True), ("1e-4", False)])
def test_implausible_learning_rate_is_a_warning(toy, capsys, command, rate, is_warned):
    """It is printed once, and ends nothing: someone may want it."""
    assert dispatch([*command, *toy, f"trainer.args.learning_rate={rate}"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "learning_rate=100000 is too high" in line]
    assert len(lines) == is_warned
