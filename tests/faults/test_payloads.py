"""A config is data: whatever it names, wherever it stands, nothing runs but classes that are meant for configs.

Each payload would write a file called `canary`, or could be made to.
"""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.cli import main
from hydratune.cli.train import checked
from hydratune.config import allowlist
from hydratune.config.composition import Request, compose_config, composer
from hydratune.config.instantiate import build
from hydratune.config.options import shipped_dir
from hydratune.config.validate import check_config
from hydratune.utils.errors import ConfigError
from processes import HYDRATUNE

TOUCH = "touch canary"
WRITE = "open('canary', 'w').close()"
# `_target_` -> arguments
OUTSIDE = {
    "os.system": {"command": TOUCH},
    "posix.system": {"command": TOUCH},
    "os.popen": {"cmd": TOUCH},
    "nt.system": {"command": TOUCH},
    "subprocess.run": {"args": ["touch", "canary"]},
    "subprocess.Popen": {"args": ["touch", "canary"]},
    "asyncio.subprocess.create_subprocess_shell": {"cmd": TOUCH},
    "pty.spawn": {"argv": ["touch", "canary"]},
    "builtins.eval": {"_args_": [WRITE]},
    "builtins.exec": {"_args_": [WRITE]},
    "builtins.open": {"file": "canary", "mode": "w"},
    "builtins.getattr": {"_args_": ["os", "system"]},
    "io.open": {"file": "canary", "mode": "w"},
    "pathlib.Path.write_text": {"self": "canary", "data": "x"},
    "pathlib.Path.touch": {"self": "canary"},
    "shutil.copy": {"src": "pickle", "dst": "canary"},
    "shutil.rmtree": {"path": "."},
    "tempfile.NamedTemporaryFile": {"dir": ".", "delete": False},
    "torch.load": {"f": "pickle", "weights_only": False},
    "torch.hub.load": {"repo_or_dir": ".", "model": "evil", "source": "local"},
    "torch.utils.cpp_extension.load_inline": {"name": "x", "cpp_sources": "x"},
    "numpy.load": {"file": "pickle", "allow_pickle": True},
    "numpy.savetxt": {"fname": "canary", "X": [1]},
    "joblib.load": {"filename": "pickle"},
    "pandas.read_pickle": {"filepath_or_buffer": "pickle"},
    "pandas.eval": {"expr": "@__builtins__"},
    "pickle.load": {"file": "pickle"},
    "dill.load": {"file": "pickle"},
    "cloudpickle.load": {"file": "pickle"},
    "yaml.unsafe_load": {"stream": "!!python/object/apply:os.system [touch canary]"},
    "importlib.import_module": {"name": "antigravity"},
    "importlib.machinery.SourceFileLoader": {"fullname": "evil", "path": "evil.py"},
    "runpy.run_path": {"path_name": "evil.py"},
    "code.InteractiveInterpreter": {},
    "timeit.timeit": {"stmt": WRITE},
    "cProfile.run": {"statement": WRITE},
    "operator.methodcaller": {"name": "system"},
    "operator.attrgetter": {"_args_": ["system"]},
    "functools.partial": {"_args_": [TOUCH]},
    "functools.reduce": {"_args_": [TOUCH]},
    "hydra.utils.instantiate": {"config": {"_target_": "os.system", "command": TOUCH}},
    "hydra.utils.call": {"config": {"_target_": "os.system", "command": TOUCH}},
    "hydra.utils.get_method": {"path": "os.system"},
    "hydra.utils.get_class": {"path": "subprocess.Popen"},
    "hydra._internal.utils._locate": {"path": "os.system"},
    "hydra.experimental.callbacks.PickleJobInfoCallback": {},
    "omegaconf.OmegaConf.register_new_resolver": {"name": "x"},
    "evaluate.load": {"path": "evil.py"},
    "datasets.load_dataset": {"path": "."},
    "mlflow.pyfunc.load_model": {"model_uri": "."},
    "optuna.storages.RDBStorage": {"url": "sqlite:///canary"},
}
INSIDE = {
    "transformers.utils.os.system": {"command": TOUCH},
    "transformers.utils.hub.subprocess.run": {"args": TOUCH},
    "transformers.trainer.shutil.copy": {"src": "pickle", "dst": "canary"},
    "transformers.trainer.importlib.metadata": {},
    "transformers.dynamic_module_utils.get_class_in_module": {"class_name": "E", "module_path": "evil.py"},
    "transformers.dynamic_module_utils.get_class_from_dynamic_module": {
        "class_reference": "evil.E", "pretrained_model_name_or_path": "."},
    "transformers.AutoModel.from_pretrained": {"pretrained_model_name_or_path": ".", "trust_remote_code": True},
    "transformers.AutoTokenizer.from_pretrained": {"pretrained_model_name_or_path": ".", "trust_remote_code": True},
    "transformers.AutoModel": {},
    "transformers.pipeline": {"model": ".", "trust_remote_code": True},
    "transformers.Trainer.save_model": {"output_dir": "canary"},
    "transformers.Trainer.push_to_hub": {},
    "transformers.PreTrainedModel.save_pretrained": {"save_directory": "canary"},
    "transformers.TrainerState.save_to_json": {"json_path": "canary"},
    "transformers.modeling_utils.load_state_dict": {"checkpoint_file": "pickle", "weights_only": False},
    "transformers.trainer_utils.set_seed": {"seed": 1},
    "transformers.utils.import_utils.define_import_structure": {"module_path": "."},
    "peft.PeftModel.from_pretrained": {"model": "x", "model_id": "."},
    "peft.AutoPeftModel.from_pretrained": {"pretrained_model_name_or_path": "."},
    "peft.utils.save_and_load.torch_load": {"f": "pickle", "weights_only": False},
    "peft.utils.save_and_load.load_peft_weights": {"model_id": "."},
    "peft.tuners.lora.tp_layer.importlib.import_module": {"name": "evil"},
    "optuna.samplers.os.system": {"command": TOUCH},
    "optuna.samplers._cmaes.pickle.loads": {"data": "x"},
    "hydratune.utils.files.os.system": {"command": TOUCH},
    "hydratune.utils.files.write_text": {"path": "canary", "text": "x"},
    "hydratune.utils.files.Path.write_text": {"self": "canary", "data": "x"},
    "hydratune.utils.files.claim_directory": {"wanted": "canary"},
    "hydratune.cli.main.main": {},
    "hydratune.cli.main.dispatch": {"arguments": ["configs", "copy", "dataset/local", "canary"]},
    "hydratune.cli.main.importlib.import_module": {"name": "evil"},
    "hydratune.config.instantiate.build": {"node": {"_target_": "os.system"}},
    "hydratune.config.allowlist.load": {"path": "os.system", "key": ""},
    "hydratune.training.push.Push": {"directory": ".", "repo_id": "me/x"},
    "hydratune.utils.provenance.subprocess.run": {"args": TOUCH},
    "hydratune.utils.provenance._git": {},
    "hydratune.sweep.isolated.subprocess.Popen": {"args": TOUCH},
    "hydratune.sweep.study.Study": {},
    "hydratune.tracking.client.connect": {"uri": "sqlite:///canary"},
    "hydratune.tracking.journal.Journal": {"directory": "canary"},
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper": {"max_batch_size": None},
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher": {"setup": [TOUCH]},
}  # fmt: skip
ODD = ["", ".", "os", "os.", ".os.system", "os..system", "transformers", "hydratune.utils.files:write_text",
       "transformers.Trainer\n", "transformers.Trainer.__init__", "transformers.Trainer.__class__",
       "peft.LoraConfig.__reduce__", "hydratune.tasks.Task.__subclasses__", 3, None, ["os.system"],
       {"_target_": "os.system"}]  # fmt: skip


class Evil:
    """Pickled, it makes the canary when it is loaded."""

    def __reduce__(self):
        return (open, ("canary", "w"))


@pytest.fixture(autouse=True)
def canary(own_directory, monkeypatch):
    """Files that payloads use, in the current directory, which code is looked for in; the canary must not appear."""
    (own_directory / "pickle").write_bytes(pickle.dumps(Evil()))
    for name in ("evil", "hubconf"):
        (own_directory / f"{name}.py").write_text(WRITE)
    monkeypatch.syspath_prepend(own_directory)
    yield own_directory / "canary"
    assert not (own_directory / "canary").exists()
    assert not {"evil", "hubconf", "antigravity"} & set(sys.modules)


def refused(*overrides, **where):
    """The keys of what checking refuses."""
    request = Request(tuple(overrides), **where)
    with composer(request), pytest.raises(ConfigError) as caught:
        checked(request)
    return [problem.key for problem in caught.value.problems]


def test_every_payload_is_refused_when_it_is_checked(own_directory):
    """All of them at once, each with its key, and nothing is imported or called."""
    nodes = {f"n{i}": {**node, "_target_": target} for i, (target, node) in enumerate({**OUTSIDE, **INSIDE}.items())}
    odd = {f"o{i}": {"_target_": target} for i, target in enumerate(ODD)}
    (own_directory / "mine" / "experiment").mkdir(parents=True)
    text = "# @package _global_\n" + yaml.safe_dump({"vars": {**nodes, **odd}})
    (own_directory / "mine" / "experiment" / "evil.yaml").write_text(text)
    keys = set(refused("experiment=evil", config_dir=own_directory / "mine"))
    assert {f"vars.{name}._target_" for name in [*nodes, *odd]} <= keys


@pytest.mark.parametrize("partial", [False, True])
def test_every_payload_is_refused_when_it_is_built(partial):
    """Also where nobody checked the config before, as with one that was stored."""
    for target, node in [*OUTSIDE.items(), *INSIDE.items(), *((target, {}) for target in ODD)]:
        cfg = OmegaConf.create({"a": {"b": [{**node, "_target_": target, "_partial_": partial}]}})
        with pytest.raises(ConfigError) as caught:
            build(cfg.a)
        assert {problem.key.startswith("a.b[0]") for problem in caught.value.problems} == {True}


def test_payloads_are_real(monkeypatch, canary):
    """Listed by the user, such code runs: the canary can sing."""
    monkeypatch.setenv(allowlist.VARIABLE, "shutil, subprocess.check_call,pathlib")
    for node in (
        {"_target_": "shutil.copy", "src": "pickle", "dst": "canary"},
        {"_target_": "subprocess.check_call", "popenargs": 0, "args": ["touch", "canary"]},
        {"_target_": "pathlib.Path.touch", "self": Path("canary")},
    ):
        node.pop("popenargs", None)
        build(OmegaConf.create({"a": node}, flags={"allow_objects": True}).a)
        canary.unlink()


EVIL = "{_target_: os.system, command: touch canary}"
HIDDEN = "{_target_: hydratune.utils.files.write_text, path: canary, text: x}"
# What is typed, or stands in a config -> the keys that are refused
PLACES = {
    **{f"++{node}._target_={path}": f"{node}._target_"
       for node in ("task", "model", "dataset", "trainer", "trainer.args", "adapter", "hardware", "tracking", "sweep")
       for path in ("os.system", "hydratune.utils.files.write_text")},
    "++hardware._target_='${vars.evil}'": "vars.evil",
    "++trainer.args._target_='${vars.evil}'": "vars.evil",
    f"+vars.x={EVIL}": "vars.x._target_",
    f"+vars.y={HIDDEN}": "vars.y._target_",
    f"++trainer.callbacks.x={EVIL}": "trainer.callbacks.x._target_",
    f"++trainer.args.report_to={EVIL}": "trainer.args.report_to._target_",
    f"++trainer.optimizers=[{EVIL}]": "trainer.optimizers[0]._target_",
    f"++adapter.config={EVIL}": "adapter.config._target_",
    f"++sweep.sampler={HIDDEN}": "sweep.sampler._target_",
    f"++dataset.columns.text={HIDDEN}": "dataset.columns.text._target_",
    f"++model.config.x.y=[[{HIDDEN}]]": "model.config.x.y[0][0]._target_",
    f"+hydra.callbacks.x={EVIL}": "hydra.callbacks.x._target_",
    "+hydra.callbacks.x={_target_: hydra.experimental.callbacks.PickleJobInfoCallback}": "hydra.callbacks.x._target_",
    "hydra.launcher._target_=os.system": "hydra.launcher._target_",
    "+hydra.launcher.x={_target_: functools.partial}": "hydra.launcher.x._target_",
    "++hydra.sweeper._target_=subprocess.Popen": "hydra.sweeper",
    "++hydra.job.env_set.GIT_EXTERNAL_DIFF=evil": "hydra.job.env_set",
    "+hydra.launcher.setup=['touch canary']": "hydra.launcher.setup",
    "+hydra.launcher.additional_parameters={prolog: evil}": "hydra.launcher.additional_parameters",
    "hydra.output_subdir=../../elsewhere": "hydra.output_subdir",
    "hydra.job.name=../../canary": "hydra.job.name",
}  # fmt: skip


@pytest.mark.parametrize("override", PLACES)
def test_every_place(override):
    """A target is refused wherever it stands, and so is what Hydra would run by itself."""
    assert PLACES[override] in refused(override, "+vars.evil=os.system")


LOGGING = {
    "handlers: {x: {class: logging.os.system, command: touch canary}}": "handlers.x.class",
    "handlers: {x: {class: logging.FileHandler, filename: canary}}": "handlers.x.filename",
    "handlers: {x: {class: logging.FileHandler, filename: '${hydra.runtime.output_dir}/../canary'}}":
        "handlers.x.filename",
    "handlers: {x: {class: logging.FileHandler, filename: '${hydra.runtime.output_dir}/${vars.x}'}}":
        "handlers.x.filename",
    "handlers: {x: {class: logging.handlers.SocketHandler, host: evil.com, port: 80}}": "handlers.x.class",
    "handlers: {x: {class: logging.StreamHandler, stream: 'cfg://handlers'}}": "handlers.x.stream",
    "handlers: {x: {class: logging.StreamHandler, stream: '${vars.x}'}}": "handlers.x.stream",
    "handlers: {x: {class: logging.StreamHandler, '.': {emit: x}}}": "handlers.x.·",
    "formatters: {x: {'()': os.system, command: touch canary}}": "formatters.x.()",
    "formatters: {x: {'()': 'ext://os.system', command: touch canary}}": "formatters.x.()",
    "filters: {x: {'()': '${vars.x}', command: touch canary}}": "filters.x.()",
    "loggers: {x: {handlers: [x], filters: ['${vars.x}']}}": "loggers.x.filters[0]",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["job_logging", "hydra_logging"])
@pytest.mark.parametrize("content", LOGGING)
def test_logging_runs_no_code(own_directory, kind, content):
    """Neither code nor files elsewhere, and nothing that cannot be seen before it is used."""
    folder = own_directory / "mine" / "hydra" / kind
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"version: 1\n{content}\n")
    keys = refused(f"hydra/{kind}=mine", "+vars.x=ext://os.system", config_dir=own_directory / "mine")
    assert f"hydra.{kind}.{LOGGING[content]}" in keys


@pytest.mark.parametrize(
    "value",
    [
        "${oc.create:${vars.t}}", r"\${oc.create:'{_target_: os.system, command: touch canary}'}", "${vars.e}",
        "${oc.${vars.c}:${vars.t}}", "${oc.decode:${vars.t}}", "${oc.env:EVIL}",
        "${package_path:evil.sub}", "${package_path:evil.sub,x}",
    ],
)  # fmt: skip
def test_no_text_becomes_a_node(monkeypatch, value):
    """Interpolations give values: whatever they make of a text, and however often it is read, nothing is called."""
    monkeypatch.setenv("EVIL", EVIL)
    cfg = {
        "vars": {"t": EVIL, "c": "create", "e": r"\${oc.create:${vars.t}}"},
        "a": {"_target_": "hydratune.data.Mixture", "weights": {"x": value}, "sources": {"y": {"z": [value]}}},
    }
    with composer(Request()):
        node = OmegaConf.create(cfg).a
    try:
        built = build(node)
    except (ValueError, OmegaConfBaseException):  # the last by OmegaConf's grammar alone
        return
    assert isinstance(built.weights["x"], str)


def test_a_search_path_imports_no_package(own_directory):
    """Hydra would import what `pkg://` names."""
    assert refused("hydra.searchpath=[pkg://evil]") == ["hydra.searchpath"]
    assert refused("++hydra.searchpath=[file://., 'pkg://evil']") == ["hydra.searchpath"]
    (own_directory / "mine").mkdir()
    text = "defaults: [_self_]\nhydra: {searchpath: [pkg://hydratune.conf, pkg://evil]}\n"
    (own_directory / "mine" / "train.yaml").write_text(text)
    assert refused(config_path=own_directory / "mine") == ["hydra.searchpath"]


def test_search_path_of_a_primary_config_is_checked_beside_a_config_dir(own_directory):
    """Hydra reads the folders of both, and so does the check."""
    primary, evil = own_directory / "mine", own_directory / "evil" / "extra"
    (own_directory / "more").mkdir()
    for folder in (primary, evil):
        folder.mkdir(parents=True)
    search = f"hydra:\n  searchpath: [pkg://hydratune.conf, file://{evil.parent}]\n"
    text = (shipped_dir() / "train.yaml").read_text().replace("hydra:\n", search, 1)
    text = text.replace("  - override hydra/help", "  - optional extra: evil\n  - override hydra/help", 1)
    (primary / "train.yaml").write_text(text)
    callback = {"_target_": "joblib.load", "filename": "canary"}
    (evil / "evil.yaml").write_text(f"# @package _global_\nhydra: {{callbacks: {{evil: {json.dumps(callback)}}}}}\n")
    key = "hydra.callbacks.evil._target_"
    assert key in refused(config_path=primary)
    assert key in refused(config_path=primary, config_dir=own_directory / "more")


@pytest.fixture
def evil_primary(own_directory, monkeypatch):
    """The folder of a primary config that names a module to import; the module is `this`, of Python itself."""
    monkeypatch.delitem(sys.modules, "this", raising=False)
    folder = own_directory / "outputs" / "theirs" / "conf"
    folder.mkdir(parents=True)
    entry = "pkg://this"
    (folder / "evil.yaml").write_text(f"defaults: [train, _self_]\nhydra: {{searchpath: [{entry}]}}\n")
    return folder


TYPED = [
    ["-n"], ["check"], ["lr-find"], ["sweep", "plan", "seed=1,2"], ["--cfg", "job"], ["--info", "config"],
]  # fmt: skip


@pytest.mark.parametrize("command", TYPED, ids=" ".join)
@pytest.mark.parametrize("flag", ["--config-dir", "--config-path"])
def test_primary_config_of_any_folder_imports_no_package(evil_primary, command, flag):
    """Hydra takes a primary config from each folder that it searches, not only from `--config-path`."""
    with pytest.raises(ConfigError) as caught:
        main.dispatch([*command, flag, str(evil_primary), "--config-name", "evil"])
    assert {problem.key for problem in caught.value.problems} == {"hydra.searchpath"}
    assert "this" not in sys.modules


def test_completion_imports_no_package(evil_primary, monkeypatch):
    """Hydra alone composes the config for it, so that its loader has to refuse the package."""
    monkeypatch.setenv("COMP_LINE", "hydratune dataset=")
    with pytest.raises(ConfigError) as caught:
        main.dispatch(["-sc", "query=bash", "--config-dir", str(evil_primary), "--config-name", "evil"])
    assert {problem.key for problem in caught.value.problems} == {"hydra.searchpath"}
    assert "this" not in sys.modules


def test_stored_name_of_a_primary_config_imports_no_package(evil_primary, own_directory):
    """A run and a sweep name their primary config, and the user types nothing."""
    from fake_sweep import SPACE, fake, fake_study

    source = {"path": str(evil_primary), "schema": "file", "provider": "command-line"}
    hydra = {"runtime": {"cwd": "/nonexistent", "config_sources": [source]}, "job": {"config_name": "evil"}}
    (evil_primary.parent / ".hydra").mkdir()
    (evil_primary.parent / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": hydra}))
    (evil_primary.parent / ".hydra" / "overrides.yaml").write_text("[]")
    fake_study(["dataset=digits", *SPACE], fake(1e-3, 0, 0.5))
    (path,) = own_directory.glob("multirun/*/sweep.json")
    plan = json.loads(path.read_text())
    plan["flags"] |= {"config_dir": str(evil_primary), "config_name": "evil"}
    path.write_text(json.dumps(plan))
    for command in (
        ["resume", str(evil_primary.parent)],
        *(["sweep", v, str(path.parent)] for v in ("status", "finish")),
    ):
        with pytest.raises(ConfigError) as caught:
            main.dispatch(command)
        assert {problem.key for problem in caught.value.problems} == {"hydra.searchpath"}
    assert "this" not in sys.modules


def test_search_path_of_another_scheme_imports_no_module(own_directory, monkeypatch):
    """Hydra imports the module of `structured://`, also if a directory has this name."""
    monkeypatch.delitem(sys.modules, "this", raising=False)
    (own_directory / "structured:" / "this").mkdir(parents=True)
    assert refused("hydra.searchpath=['structured://this']") == ["hydra.searchpath"]
    assert "this" not in sys.modules


def test_primary_config_of_a_config_dir_may_name_folders(evil_primary, own_directory):
    """Positive control: a folder of the project, and the package of the shipped configs, are read."""
    (own_directory / "more" / "vars").mkdir(parents=True)
    (own_directory / "more" / "vars" / "x.yaml").write_text("y: 1\n")
    searchpath = f"[pkg://hydratune.conf, 'file://{own_directory / 'more'}']"
    (evil_primary / "evil.yaml").write_text(
        f"defaults: [train, vars: x, _self_]\nhydra: {{searchpath: {searchpath}}}\n"
    )
    request = Request(config_dir=evil_primary, config_name="evil")
    with composer(request):
        assert compose_config(request, ()).vars.y == 1


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("transformers.Adafactor", "+vars.x._target_=transformers.Adafactor"),
        ("hydra.job.env_set", "++hydra.job.env_set.OMP_NUM_THREADS=2"),
        ("hydra.launcher.setup", "+hydra.launcher.setup=[module load cuda]"),
        ("json", "hydra.searchpath=[pkg://json]"),
    ],
)
def test_what_the_user_lists(monkeypatch, compose, name, override):
    """One name of a package, one key, or a package that configs are read from, is allowed by its name alone."""

    def told():
        try:
            check_config(compose(override))
        except ConfigError as error:
            return {*error.problems}
        return set()

    before = told()
    monkeypatch.setenv(allowlist.VARIABLE, f"other, {name}")
    (gone,) = before - told()
    assert override.lstrip("+").startswith(gone.key)
    assert name in gone.hint


def test_the_list_is_that_of_the_first_directory(own_directory, monkeypatch):
    """A directory that a config or a stored run leads to brings no list of its own."""
    assert allowlist.user_allowlist() == ()
    (own_directory / "theirs").mkdir()
    (own_directory / "theirs" / "pyproject.toml").write_text('[tool.hydratune]\nallow = ["os", "subprocess"]\n')
    monkeypatch.chdir("theirs")
    assert allowlist.user_allowlist() == ()


# --- what others stored ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [f"+hydra.callbacks.x={EVIL}", f"+trainer.callbacks.x={EVIL}", "hydra.searchpath=[pkg://evil]",
     f"+vars.x={HIDDEN}", "-m", "--experimental-rerun=pickle"],
)  # fmt: skip
def test_a_run_that_goes_on(own_directory, typed):
    """The overrides that a run's directory says are checked as typed ones are; its own directory allows nothing."""
    theirs = own_directory / "theirs"
    (theirs / ".hydra").mkdir(parents=True)
    (theirs / "pyproject.toml").write_text('[tool.hydratune]\nallow = ["os", "hydratune.utils.files", "evil"]\n')
    (theirs / ".hydra" / "overrides.yaml").write_text(json.dumps([typed]))
    hydra = {"runtime": {"cwd": str(theirs), "config_sources": []}}
    (theirs / ".hydra" / "hydra.yaml").write_text(json.dumps({"hydra": hydra}))
    with pytest.raises(ConfigError):
        main.dispatch(["resume", str(theirs)])


@pytest.mark.parametrize("key", ["task", "hardware", "trainer.args", "dataset", "trainer", "model"])
def test_a_finished_run(own_directory, compose, key):
    """The config that a finished run says is data too: nothing of it is built before it was checked."""
    from hydratune.training.job import resolved_yaml

    cfg = compose("dataset=local", "dataset.files.train=a.jsonl")
    cfg = OmegaConf.create(yaml.safe_load(resolved_yaml(OmegaConf.masked_copy(cfg, [k for k in cfg if k != "hydra"]))))
    OmegaConf.update(cfg, key, {"_target_": "os.system", "command": TOUCH}, merge=False)
    run = own_directory / "run"
    (run / "model").mkdir(parents=True)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(cfg))
    (run / "metrics.json").write_text("{}")
    (own_directory / "a.jsonl").write_text('{"text": "a", "label": "b"}\n')
    for command in (["predict", "run", "a.jsonl"], ["evaluate", "run", "dataset.files.test=a.jsonl"]):
        with pytest.raises(ConfigError) as caught:
            main.dispatch(command)
        targets = [problem.text for problem in caught.value.problems if problem.key == f"{key}._target_"]
        assert "'os.system'" in targets[0]


@pytest.mark.parametrize(
    ("verb", "typed"),
    [
        ("report", f"++sweep={HIDDEN}"),
        ("report", "hydra.searchpath=[pkg://evil]"),
        ("finish", f"+trainer.callbacks.x={EVIL}"),
        ("finish", f"+vars.x={HIDDEN}"),
    ],
)
def test_a_sweep_that_others_made(own_directory, verb, typed):
    """The overrides and values that a sweep's directory says are checked as typed ones are."""
    from fake_sweep import SPACE, fake, fake_study

    fake_study(["dataset=digits", *SPACE], fake(1e-3, 0, 0.5))
    (path,) = own_directory.glob("multirun/*/sweep.json")
    plan = json.loads(path.read_text())
    path.write_text(json.dumps({**plan, "overrides": [*plan["overrides"], typed]}))
    with pytest.raises(ConfigError) as caught:
        main.dispatch(["sweep", verb, str(path.parent)])
    assert any(problem.key.endswith(("_target_", "hydra.searchpath")) for problem in caught.value.problems)


def test_values_of_a_trial(own_directory):
    """What a study's storage says of a trial is checked before it is trained."""
    from hydratune.sweep.plan import make_plan
    from hydratune.sweep.trial import compose as compose_trial

    plan, _ = make_plan(Request(("dataset=digits", "trainer.args.weight_decay=0,0.1")))
    with pytest.raises(ConfigError, match=r"hydra\.callbacks\.x\._target_"):
        compose_trial(plan, [*plan.overrides, f"+hydra.callbacks.x={EVIL}"], own_directory)


# --- the real command ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["--config-path", "mine"],
        ["--config-path", "mine", "--help"],
        ["--config-path", "mine", "--cfg", "job"],
        ["--config-path", "mine", "-m", "seed=1,2"],
    ],
)
def test_the_command_line(own_directory, arguments):
    """A foreign config with every kind of code in it ends in messages and exit code 2."""
    (own_directory / "mine").mkdir()
    evil = {"_target_": "os.system", "command": TOUCH}
    logging = {"version": 1, "root": {"handlers": ["x"]}, "handlers": {"x": {"class": "logging.os.system", **evil}}}
    hydra = {"searchpath": ["pkg://hydratune.conf"], "callbacks": {"x": evil}, "hydra_logging": logging,
             "job_logging": logging, "job": {"env_set": {"GIT_EXTERNAL_DIFF": "touch canary"}}}  # fmt: skip
    shipped = (Path(__file__).parents[2] / "conf" / "train.yaml").read_text()
    base = OmegaConf.create(yaml.safe_load(shipped))
    merged = OmegaConf.merge(base, {"hydra": hydra, "vars": {"x": evil}})
    (own_directory / "mine" / "train.yaml").write_text(OmegaConf.to_yaml(merged))
    done = subprocess.run([HYDRATUNE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr + done.stdout
    assert "error: hydra.hydra_logging.handlers.x.class must be " in done.stderr
    assert "Traceback" not in done.stderr
