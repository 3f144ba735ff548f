"""Stored files that are valid JSON or YAML but lack keys or have values of other types: one error, or a correct result.

Each test changes one kind of file in every way of `mutations`. A traceback would fail it, since only `ConfigError` and
the exceptions of a reader are expected.
"""

import json
import shutil
from dataclasses import asdict

import pytest
import yaml
from omegaconf import OmegaConf

from fake_sweep import SPACE, fake, fake_study
from hydratune.cli.main import dispatch
from hydratune.cli.run_status import run_status
from hydratune.config import config_folders, servers, trust
from hydratune.config.composition import without_hydra
from hydratune.config.project import project_settings
from hydratune.evaluation.load_run import open_run
from hydratune.sweep.stored_plan import read_plan
from hydratune.tracking.delivery import POINTER, pointer
from hydratune.tracking.journal import JOURNAL, SENT, Journal
from hydratune.training.results import read_metrics
from hydratune.training.trainer.checkpoint_files import (
    MANIFEST,
    STATE,
    UNFINISHED,
    PendingEvaluation,
    commit,
    latest_valid,
)
from hydratune.utils import hub
from hydratune.utils.errors import ConfigError
from hydratune.utils.stored_files import StoredFileError, parse_stored
from hydratune.utils.yaml_files import read_hydra_node
from mutations import with_wrong_types, without_each_key
from stored_checkpoints import STATE as STATE_VALUES
from stored_checkpoints import manifest, state_text

LINEAGE = {"network": "a", "seed": "1", "training set": "b"}


def all_changes(content):
    """Yield each way to change a content, and the changed content."""
    for path, changed in without_each_key(content):
        yield (*path, "removed"), changed
    for path, value, changed in with_wrong_types(content):
        yield (*path, value), changed


def ends_well(function, *arguments):
    """Call a function; return False if it raises ConfigError, and fail for any other exception."""
    try:
        function(*arguments)
    except ConfigError:
        return False
    return True


# --- checkpoints -------------------------------------------------------------------------------------------


@pytest.fixture
def checkpoints(tmp_path):
    """A directory with the checkpoints of two steps."""
    for step in (1, 2):
        write_checkpoint(tmp_path, step, state_text(step))
    return tmp_path


def write_checkpoint(folder, step, state, **changes):
    """Write a checkpoint whose manifest agrees with its files."""
    final, written = folder / f"checkpoint-{step}", folder / UNFINISHED / f"checkpoint-{step}"
    shutil.rmtree(final, ignore_errors=True)
    written.mkdir(parents=True)
    (written / STATE).write_text(state)
    commit(written, final, manifest(LINEAGE, **changes))


def test_manifest_with_any_change_is_skipped(checkpoints):
    """The run resumes from the checkpoint before, unless the change is to another valid value."""
    path = checkpoints / "checkpoint-2" / MANIFEST
    content = json.loads(path.read_text())
    assert latest_valid(checkpoints, LINEAGE)[0].name == "checkpoint-2"
    accepted = []
    for change, changed in all_changes(content):
        path.write_text(json.dumps(changed))
        latest, _ = latest_valid(checkpoints, LINEAGE)
        if latest.name != "checkpoint-1":
            accepted.append(change)
    numbers = {("loss", name) for name in ("seconds", "since_last_log", "until_last_log")}
    valid = [("pending_evaluation", "removed"), ("conditions", {}), ("departures", []), ("departures", ["x"])]
    valid += [("loss", "last_log", 10**30)]
    assert [c for c in accepted if c not in valid and not (c[:2] in numbers and is_number(c[-1]))] == []


def is_number(value):
    """Return whether a value of JSON is a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def test_interrupted_evaluation_of_another_form_is_skipped(checkpoints):
    """The manifest says whether a checkpoint follows it."""
    write_checkpoint(checkpoints, 2, state_text(2), pending_evaluation=PendingEvaluation(True))
    path = checkpoints / "checkpoint-2" / MANIFEST
    content = json.loads(path.read_text())
    assert content["pending_evaluation"] == {"save": True}
    for change, changed in all_changes(content["pending_evaluation"]):
        path.write_text(json.dumps({**content, "pending_evaluation": changed}))
        assert latest_valid(checkpoints, LINEAGE)[0].name == "checkpoint-1" or changed is None, change


def test_manifest_without_a_part_of_its_lineage_is_that_of_another_run(checkpoints):
    """The checkpoint could have been trained on other rows."""
    path = checkpoints / "checkpoint-2" / MANIFEST
    content = json.loads(path.read_text())
    for name in LINEAGE:
        lineage = {key: value for key, value in LINEAGE.items() if key != name}
        path.write_text(json.dumps({**content, "lineage": lineage}))
        assert latest_valid(checkpoints, LINEAGE)[0].name == "checkpoint-1", name


def test_state_of_the_trainer_with_any_change_is_skipped(checkpoints):
    """Without its step, the run would start over with trained weights."""
    accepted = []
    for change, changed in all_changes({**STATE_VALUES, "global_step": 2}):
        write_checkpoint(checkpoints, 2, json.dumps(changed))
        if latest_valid(checkpoints, LINEAGE)[0].name != "checkpoint-1":
            accepted.append(change)
    assert [c for c in accepted if c in (("train_batch_size", -1), ("best_global_step", -1))] == []
    wrong_types = [change for change in accepted if change[0] == "global_step" or change[-1] in ("removed", True, "x")]
    assert [change for change in wrong_types if change != ("best_model_checkpoint", "x")] == []
    assert accepted


def test_state_of_the_trainer_with_another_key_or_step_is_skipped(checkpoints):
    """Upstream would raise a TypeError, or train the steps in between again."""
    for changes in ({"os.system": "x"}, {"global_step": 1}):
        write_checkpoint(checkpoints, 2, state_text(2, **changes))
        assert latest_valid(checkpoints, LINEAGE)[0].name == "checkpoint-1", changes


# --- runs --------------------------------------------------------------------------------------------------


@pytest.fixture
def run(own_directory, compose):
    """A run directory with the files that commands read, of a run that was not tracked."""
    directory = own_directory / "outputs" / "r"
    (directory / ".hydra").mkdir(parents=True)
    (directory / "model").mkdir()
    cfg = compose("dataset=digits", "tracking=none", "hardware=cpu")
    (directory / "config.yaml").write_text(OmegaConf.to_yaml(without_hydra(cfg), resolve=True))
    (directory / "metrics.json").write_text(json.dumps({"eval_accuracy": 0.5, "epoch": 1.0, "precisions": {}}))
    (directory / ".hydra" / "overrides.yaml").write_text("[tracking=none, seed=1]\n")
    source = {"path": "hydratune.conf", "provider": "main", "schema": "pkg"}
    runtime = {"cwd": str(own_directory), "config_sources": [source], "choices": {"dataset": "digits"}}
    hydra_node = {"runtime": runtime, "job": {"config_name": "train", "id": "3"}}
    (directory / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": hydra_node}))
    (directory / ".lock").touch()
    return directory


def test_metrics_with_any_change(run):
    """Scores are numbers; other values are not read as numbers."""
    path = run / "metrics.json"
    for change, changed in all_changes(json.loads(path.read_text())):
        path.write_text(json.dumps(changed))
        score = changed.get("eval_accuracy", 0.0) if isinstance(changed, dict) else None
        assert ends_well(read_metrics, run) == isinstance(score, int | float), change
        run_status(run)


def test_metrics_without_the_objective_are_an_error(run):
    """`sweep finish` compares the retrainings by it."""
    with pytest.raises(ConfigError) as caught:
        read_metrics(run, "eval_loss")
    assert "eval_loss" in str(caught.value)


@pytest.mark.slow
def test_config_with_any_change(run):
    """Each key of the stored config."""
    path = run / "config.yaml"
    content = yaml.safe_load(path.read_text())
    assert ends_well(open_run, str(run), "")
    changes = [changed for _, changed in without_each_key(content)]
    changes += [changed for path, _, changed in with_wrong_types(content, [None, ["x"]]) if len(path) < 3]
    assert len(changes) > 100
    for changed in changes:
        path.write_text(yaml.safe_dump(changed))
        ends_well(open_run, str(run), "")
        run_status(run)


@pytest.mark.slow
def test_hydra_node_and_overrides_with_any_change(run):
    """`resume` starts a run only if all of it is valid; the seed is not, so nothing is trained."""
    for name in ("hydra.yaml", "overrides.yaml"):
        path = run / ".hydra" / name
        text = path.read_text()
        for change, changed in all_changes(yaml.safe_load(text)):
            path.write_text(yaml.safe_dump(changed))
            assert not ends_well(dispatch, ["resume", str(run), "seed=x", "--dry-run"]), change
        path.write_text(text)
    read_hydra_node(run)


# --- tracking ----------------------------------------------------------------------------------------------

STORED_POINTER = {
    "uri": "sqlite:///x.db",
    "experiment_id": "1",
    "run_id": "a" * 32,
    "directory": "/x",
    "taken_over": "",
}
ENTRIES = [
    {"kind": "run", "key": "k", "experiment": "e", "name": "n", "tags": {"a": "b"}, "began": 1, "uri": "sqlite:///x"},
    {"kind": "continue", "tags": {"a": "b"}},
    {"kind": "params", "params": {"a": "b"}},
    {"kind": "tags", "tags": {"a": "b"}},
    {"kind": "metrics", "points": [["loss", 0.5, 1, 2]]},
    {"kind": "artifact", "path": "x", "folder": ""},
    {"kind": "dataset", "split": "test", "name": "n", "digest": "d", "source": "s", "rows": 3, "columns": {"a": "b"}},
    {
        "kind": "model",
        "folder": "model",
        "name": "m",
        "step": 3,
        "metrics": [["loss", 0.5, 1, 2]],
        "params": {"a": "b"},
        "datasets": {"eval": ["n", "d"]},
        "staged": False,
        "registered_name": None,
        "alias": None,
    },
    {"kind": "status", "status": "FINISHED", "ended": 2},
]


def test_pointer_with_any_change(tmp_path):
    """The run is searched for by its key if the pointer cannot be read."""
    (tmp_path / POINTER).write_text(json.dumps(STORED_POINTER))
    assert pointer(tmp_path)["run_id"] == "a" * 32
    for change, changed in all_changes(STORED_POINTER):
        (tmp_path / POINTER).write_text(json.dumps(changed))
        read = pointer(tmp_path)
        assert read is None or all(isinstance(value, str) for value in read.values()), change


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["kind"])
def test_journal_entry_with_any_change(tmp_path, entry):
    """It is skipped and counted, or has the types that the upload needs."""
    (tmp_path / JOURNAL).write_text(json.dumps(entry) + "\n")
    (original,) = Journal(tmp_path).entries(0)
    types = {name: type(value) for name, value in original.values.items()}
    optional = {"rows", "registered_name", "alias"}
    for change, changed in all_changes(entry):
        (tmp_path / JOURNAL).write_text(json.dumps(changed) + "\n")
        journal = Journal(tmp_path)
        entries = [*journal.entries(0)]
        assert len(entries) + journal.damaged == 1, change
        for read in entries:
            assert read.kind == entry["kind"]
            assert all(type(read.values[name]) is types[name] for name in types.keys() - optional), change


@pytest.mark.parametrize("end", [10**30, -1, 5, 1_000, True, "0", None])
def test_progress_that_does_not_fit_the_journal_starts_over(tmp_path, end):
    """Otherwise `sync` would find nothing to upload and report success."""
    (tmp_path / JOURNAL).write_text("".join(json.dumps(entry) + "\n" for entry in ENTRIES))
    (tmp_path / SENT).write_text(json.dumps({"end": end, "run_id": "x", "refused": []}))
    journal = Journal(tmp_path)
    assert journal.sent().end == 0
    assert not journal.is_delivered()


def test_progress_at_the_end_of_a_line_is_used(tmp_path):
    """The upload continues there."""
    lines = [json.dumps(entry) + "\n" for entry in ENTRIES]
    (tmp_path / JOURNAL).write_text("".join(lines))
    for end in (len(lines[0]), len("".join(lines))):
        (tmp_path / SENT).write_text(json.dumps({"end": end, "run_id": "x", "refused": []}))
        assert Journal(tmp_path).sent().end == end


# --- sweeps ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_plan_with_any_change(own_directory):
    """`sweep report` writes its page, or reports one error; `read_plan` accepts no wrong type."""
    fake_study(["dataset=digits", "hydra.sweep.dir=multirun/x", *SPACE], fake(1e-3, 0, 0.5, folder="0"))
    directory = own_directory / "multirun" / "x"
    content = json.loads((directory / "sweep.json").read_text())
    content = {**content, "identity": {}}  # any JSON; compared, and shown
    space = {**content["space"]["parameters"][0], "only_if": [content["space"]["parameters"][1]["keys"][0], ["0.1"]]}
    content["space"]["parameters"] = [space, *content["space"]["parameters"][1:]]
    valid = 0
    for change, changed in all_changes(content):
        (directory / "sweep.json").write_text(json.dumps(changed))
        if ends_well(read_plan, directory):
            is_optional = change[-2:-1] in (("step",), ("only_if",))
            assert change[0] not in ("space", "objectives", "seeds") or is_optional or change[-1] not in (None, {}), (
                change
            )
            ends_well(dispatch, ["sweep", "report", str(directory)])
            valid += 1
    assert valid


@pytest.mark.parametrize(
    "changes",
    [
        *[{"prefix": []}, {"prefix": ["~"]}, {"keys": []}, {"choices": [["0", "1"]]}, {"only_if": ["other", [1]]}],
        *[{"choices": [], "low": 2, "high": 1}, {"choices": [], "low": 0, "high": 1, "log": True}],
        *[{"choices": [], "low": 0, "high": 1, "step": step} for step in (0, -1, 1e-300)],
    ],
)
def test_plan_with_an_impossible_parameter_is_an_error(own_directory, changes):
    """The types are right."""
    fake_study(["dataset=digits", "hydra.sweep.dir=multirun/x", *SPACE])
    path = own_directory / "multirun" / "x" / "sweep.json"
    content = json.loads(path.read_text())
    content["space"]["parameters"][1] |= changes
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError) as caught:
        read_plan(path.parent)
    assert [problem.key for problem in caught.value.problems] == ["SWEEP"]


@pytest.mark.parametrize("name", ["a\nhydra: {}", "a/b", "\x1b[2J", "a" * 300])
def test_plan_with_an_impossible_name_is_an_error(own_directory, name):
    """`sweep finish` writes the name into a YAML comment."""
    fake_study(["dataset=digits", "hydra.sweep.dir=multirun/x", *SPACE])
    path = own_directory / "multirun" / "x" / "sweep.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": name}))
    with pytest.raises(ConfigError) as caught:
        read_plan(path.parent)
    assert [problem.key for problem in caught.value.problems] == ["SWEEP"]


# --- models and the user's own files -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_files_of_a_checkpoint_with_any_change(tiny_model, own_directory, name):
    """Transformers loads it, or it is one error."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    folder = own_directory / "copy"
    shutil.copytree(tiny_model, folder)
    content = json.loads((folder / name).read_text())
    results = set()
    for _, changed in all_changes(content):
        (folder / name).write_text(json.dumps(changed))
        try:
            with hub.loading_checkpoint("model.x", str(folder)):
                if name == "config.json":
                    AutoModel.from_config(AutoConfig.from_pretrained(folder))
                else:
                    AutoTokenizer.from_pretrained(folder)("a film")
            results.add("loaded")
        except ConfigError:
            results.add("error")
    assert results == {"loaded", "error"}


@pytest.mark.parametrize("text", ["", "3", "[]", "{}", "[1]", '{"a": 1}', '["a"]', '{"a": "b"}', "[" * 100_000, "\xff"])
def test_files_of_the_user_of_another_form_trust_nothing(own_directory, text):
    """What was recorded there must be confirmed again."""
    folder = own_directory.parent / "config" / "hydratune"
    folder.mkdir(parents=True)
    for name in ("trusted.json", "servers.json", "config_folders.json"):
        (folder / name).write_bytes(text.encode("latin-1"))
    (own_directory / "pyproject.toml").write_text('[tool.hydratune]\nallow = ["my_package"]\n')
    project_settings.cache_clear()
    assert "my_package" not in trust.trusted_names()
    assert not servers.is_confirmed("http://other.example")
    assert [*config_folders.problems({"--config-dir": "/elsewhere"})]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff", '{"lineage": 1e999}', '{"a": ' + "9" * 5_000 + "}"])
def test_parse_stored_raises_one_exception(text):
    """Whatever the bytes are."""
    with pytest.raises(StoredFileError):
        parse_stored(text.encode("latin-1"), dict[str, list[int]])


def test_parse_stored_names_the_key():
    """So that the file can be repaired."""
    content = asdict(manifest(LINEAGE))
    del content["loss"]["seconds"]
    with pytest.raises(StoredFileError, match=r"^loss\.seconds: "):
        parse_stored(json.dumps(content), type(manifest(LINEAGE)))
