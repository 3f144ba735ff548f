"""The node `hydra` of a config from someone else: Hydra uses it before any code of ours, so it must be plain data.

Each payload would create the file `canary`; `test_canary_works` shows that it would be noticed.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from hydratune.cli import main, train
from hydratune.cli.train import checked
from hydratune.config import hydra_guard
from hydratune.config.composition import Request, composer, without_hydra
from hydratune.config.config_loader import ConfigLoader
from hydratune.training.preflight import Coverage
from hydratune.training.results import RunResult
from hydratune.utils.errors import ConfigError

EVIL = {"_target_": "hydratune.utils.files.write_text", "path": "canary", "text": "x"}
TEXT = "{_target_: hydratune.utils.files.write_text, path: canary, text: x}"
# What a config file sets below `hydra` -> the key of the error.
NODES = {
    "a callback": ({"callbacks": {"x": EVIL}}, "hydra.callbacks.x._target_"),
    "a callback of an allowed kind": (
        {"callbacks": {"x": {"_target_": "transformers.TrainingArguments", "output_dir": "canary"}}},
        "hydra.callbacks.x._target_"),
    "a callback that is selected": ({"callbacks": {"x": "${vars.evil}"}}, "hydra.callbacks.x"),
    "all callbacks selected": ({"callbacks": "${vars.all}"}, "hydra.callbacks"),
    "a callback by oc.select": ({"callbacks": {"x": "${oc.select:vars.evil}"}}, "hydra.callbacks.x"),
    "a callback by oc.decode": ({"callbacks": {"x": "${oc.decode:${vars.text}}"}}, "hydra.callbacks.x"),
    "a callback by oc.dict": ({"callbacks": {"x": "${oc.dict.values:vars.all}"}}, "hydra.callbacks.x"),
    "a callback by oc.deprecated": ({"callbacks": {"x": "${oc.deprecated:vars.evil}"}}, "hydra.callbacks.x"),
    "a callback of the environment": ({"callbacks": {"x": "${oc.decode:${oc.env:EVIL}}"}}, "hydra.callbacks.x"),
    "a target by interpolation": ({"callbacks": {"x": {**EVIL, "_target_": "${vars.target}"}}},
                                  "hydra.callbacks.x._target_"),
    "a target by the clock": ({"callbacks": {"x": {"_target_": "${vars.${vars.clock}}"}}}, "hydra.callbacks.x._target_"),
    "a nested interpolation": ({"callbacks": {"x": {"y": ["${vars.evil}"]}}}, "hydra.callbacks.x.y[0]"),
    "an escaped interpolation": ({"callbacks": {"x": r"\${vars.evil}"}}, "hydra.callbacks.x"),
    "a launcher": ({"launcher": EVIL}, "overrides"),  # which Hydra's schema refuses
    "a launcher that is a callback": ({"launcher": {"_target_": "transformers.TrainerCallback"}},
                                      "hydra.launcher._target_"),
    "a launcher by interpolation": ({"launcher": {"_target_": "${vars.target}"}}, "hydra.launcher._target_"),
    "a launcher that is selected": ({"launcher": "${vars.evil}"}, "overrides"),
    "an argument of a launcher": ({"launcher": {"x": "${vars.evil}"}}, "overrides"),
    "a target in a launcher": ({"launcher": {"x": EVIL}}, "overrides"),
    "a sweeper": ({"sweeper": EVIL}, "hydra.sweeper"),
    "a sweeper by interpolation": ({"sweeper": {"_target_": "${vars.target}"}}, "hydra.sweeper"),
    "parameters of a sweeper": ({"sweeper": {"params": {"seed": "1,2"}}}, "hydra.sweeper"),
    "a sweeper where a launcher belongs": (
        {"launcher": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}}, "hydra.launcher._target_"),
    "Hydra's own sweeper with overrides": (
        {"sweeper": {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "max_batch_size": None,
                     "params": {"+hydra.job.env_set.EVIL": "x"}}}, "hydra.sweeper"),
    "a log's name": ({"job": {"name": "${vars.evil}"}}, "hydra.job.name"),
    "a log's name with a line break": ({"job": {"name": "a\n#SBATCH --wrap=evil"}}, "hydra.job.name"),
    "the directory of workers": ({"sweep": {"subdir": "../../elsewhere"}}, "hydra.sweep.subdir"),
    "the recorded overrides": ({"overrides": {"hydra": ["hydra.run.dir=elsewhere"]}}, "hydra.overrides"),
    "the directory of a run": ({"run": {"dir": "elsewhere"}}, "hydra.run.dir"),
    "an absolute directory": ({"run": {"dir": "${oc.env:HOME}/.config/autostart"}}, "hydra.run.dir"),
    "a directory above": ({"run": {"dir": "outputs/../elsewhere"}}, "hydra.run.dir"),
    "outputs itself": ({"run": {"dir": "outputs"}}, "hydra.run.dir"),
    "a directory by an escaped interpolation": ({"run": {"dir": "outputs/a\\${name}"}}, "hydra.run.dir"),
}  # fmt: skip
_FORMATTER = {"ours": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}}
_OUTPUT = "${hydra.runtime.output_dir}"
# Keys of a log file -> the key of the error below `handlers.x`.
FILES = {
    "a program of Python": ({"filename": f"{_OUTPUT}/evil.pth"}, "filename"),
    "a script": ({"filename": f"{_OUTPUT}/evil.py"}, "filename"),
    "another directory": ({"filename": "evil.log"}, "filename"),
    "a directory above": ({"filename": f"{_OUTPUT}/../evil.log"}, "filename"),
    "a directory below": ({"filename": f"{_OUTPUT}/a/evil.log"}, "filename"),
    "a name by interpolation": ({"filename": f"{_OUTPUT}/${{vars.target}}.log"}, "filename"),
    "a format": ({"formatter": "mine"}, "formatter"),
    "a date format": ({"formatter": "dated"}, "formatter"),
    "no format": ({"formatter": None}, "formatter"),
    "an unknown argument": ({"errors": "ignore"}, "errors"),
}


@pytest.fixture(autouse=True)
def canary(own_directory, monkeypatch):
    """The file that payloads would create."""
    monkeypatch.setenv("EVIL", TEXT)
    yield own_directory / "canary"
    assert not (own_directory / "canary").exists()


def written(directory, hydra):
    """A `--config-path` of someone else, with these values below `hydra`."""
    shipped = (Path(__file__).parents[2] / "conf" / "train.yaml").read_text()
    clock = {f"t{second:02}": EVIL["_target_"] for second in range(60)}
    clock["clock"] = "t${now:%S}"
    more = {"evil": EVIL, "all": {"x": EVIL}, "text": TEXT, "target": EVIL["_target_"], **clock}
    more = more if "${vars." in str(hydra) else {}
    base = yaml.safe_load(shipped)
    searchpath = {"searchpath": ["pkg://hydratune.conf"]}
    merged = OmegaConf.merge(OmegaConf.create(base), {"hydra": {**searchpath, **hydra}, "vars": more})
    (directory / "theirs").mkdir()
    (directory / "theirs" / "train.yaml").write_text(OmegaConf.to_yaml(merged))
    return directory / "theirs"


def refused(path):
    """The keys of the errors of a config, and of the command that would run it."""
    with composer(request := Request(config_path=path)), pytest.raises(ConfigError) as caught:
        checked(request)
    keys = [problem.key for problem in caught.value.problems]
    with pytest.raises(ConfigError):
        main.dispatch(["--config-path", str(path), "--dry-run"])
    return keys


@pytest.mark.parametrize("name", NODES)
def test_hydra_node_is_plain_data(own_directory, name):
    """No value below `hydra` selects code, and none becomes a node after the check."""
    node, key = NODES[name]
    assert key in refused(written(own_directory, node))


@pytest.mark.parametrize("kind", ["job_logging", "hydra_logging"])
@pytest.mark.parametrize("name", FILES)
def test_log_files_are_logs(own_directory, kind, name):
    """A config chooses neither place, extension, nor format of a log file."""
    given, key = FILES[name]
    handler = {"class": "logging.FileHandler", "formatter": "ours", "filename": f"{_OUTPUT}/more.log", **given}
    formatters = {
        **_FORMATTER,
        "mine": {"format": "import os"},
        "dated": {**_FORMATTER["ours"], "datefmt": "import os;"},
    }
    logging = {"version": 1, "formatters": formatters, "handlers": {"x": handler}}
    assert f"hydra.{kind}.handlers.x.{key}" in refused(written(own_directory, {kind: logging}))


def test_more_log_files_of_the_run_are_allowed(own_directory):
    """A second log in the run's directory, in our format, passes."""
    handler = {"class": "logging.FileHandler", "formatter": "file", "filename": f"{_OUTPUT}/more.log"}
    path = written(own_directory, {"job_logging": {"handlers": {"more": handler}}})
    with composer(request := Request(config_path=path)):
        checked(request)


# What a config file sets after the check.
LATER = {
    "a callback": {"hydra": {"callbacks": {"x": EVIL}}},
    "a callback by interpolation": {"hydra": {"callbacks": {"x": "${vars.evil}"}}, "vars": {"evil": EVIL}},
    "a handler of logs": {"hydra": {"hydra_logging": {"handlers": {"x": {
        "class": "logging.FileHandler", "filename": "canary"}}}}},
    "the environment": {"hydra": {"job": {"env_set": {"EVIL": "x"}}}},
    "a store": {"tracking": {"uri": "sqlite:///canary"}},
    "a push": {"trainer": {"args": {"push_to_hub": True}}},
}  # fmt: skip


def changed_later(directory, monkeypatch, node):
    """The command of a run whose configs contain a link, to a file that appears while the checkpoint is loaded."""

    def loaded(*_, **__):
        (directory / "conf" / "later.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(node)))
        return Coverage()

    monkeypatch.setattr(train, "preflight", loaded)
    (directory / "conf" / "extra").mkdir(parents=True)
    (directory / "conf" / "extra" / "x.yaml").symlink_to(directory / "conf" / "later.yaml")
    (directory / "conf" / "experiment").mkdir()
    text = "# @package _global_\ndefaults: [{optional /extra@_global_: x}]\n"
    (directory / "conf" / "experiment" / "e.yaml").write_text(text)
    return ["--config-dir", "conf", "experiment=e"]


@pytest.mark.parametrize("name", LATER)
def test_run_uses_the_checked_config_if_a_file_changes_later(own_directory, monkeypatch, canary, name):
    """No config file is read again after the check."""
    command = changed_later(own_directory, monkeypatch, LATER[name])
    with composer(request := Request(("experiment=e",), config_dir=own_directory / "conf")):
        checked_cfg = checked(request)
    used = []

    def run(cfg, job):
        used.append((OmegaConf.to_container(cfg), OmegaConf.to_container(HydraConfig.get())))
        return RunResult(0.5, {}, job.directory, "")

    monkeypatch.setattr(train, "run", run)
    assert main.dispatch(command) == 0
    (cfg, hydra), hydra_before = used[0], OmegaConf.to_container(checked_cfg.hydra)
    assert cfg == OmegaConf.to_container(without_hydra(checked_cfg))
    settings = ("callbacks", "hydra_logging", "job_logging")
    assert {key: hydra[key] for key in settings} == {key: hydra_before[key] for key in settings}
    assert hydra["job"]["env_set"] == {}
    assert not canary.exists()


def configs_of_sweep(command, monkeypatch):
    """The configs, as dicts, with which a sweep and one of its workers run."""
    found = []

    def sweep(cfg, context, arguments):
        worker = context.config_loader.load_sweep_config(cfg, list(arguments))
        found.extend(OmegaConf.to_container(one) for one in (cfg, worker))

    monkeypatch.setattr(train, "sweep", sweep)
    assert main.dispatch(["-m", "seed=1,2", *command]) == 0
    return found


@pytest.mark.parametrize("name", LATER)
def test_sweep_uses_the_checked_config_if_a_file_changes_later(own_directory, monkeypatch, canary, name):
    """Neither the sweep nor its workers read a config file again after the check."""
    configs = configs_of_sweep(changed_later(own_directory, monkeypatch, LATER[name]), monkeypatch)
    assert Path("conf/later.yaml").exists()
    assert not any(contains(cfg, LATER[name]) for cfg in configs)
    assert not canary.exists()


def contains(cfg, node):
    """Whether a config, as a dict, has all settings of a node."""
    return OmegaConf.to_container(OmegaConf.merge(cfg, node)) == cfg


def test_sweep_with_hydras_loader_reads_changed_files(own_directory, monkeypatch):
    """Positive control: Hydra composes the config of each worker again."""
    monkeypatch.setattr(ConfigLoader, "load_sweep_config", ConfigLoaderImpl.load_sweep_config)
    node = {"hydra": {"callbacks": {"x": EVIL}}}
    configs = configs_of_sweep(changed_later(own_directory, monkeypatch, node), monkeypatch)
    assert [contains(cfg, node) for cfg in configs] == [False, True]


@pytest.mark.parametrize("typed", ["hydra.run.dir=elsewhere", "hydra.run.dir=outputs/mine", "name=mine"])
def test_user_chooses_the_directory(typed):
    """What is typed is the user's own choice."""
    with composer(request := Request((typed,))):
        checked(request)


@pytest.mark.parametrize("name", ["run.dir", "sweep.dir"])
@pytest.mark.parametrize("text", ["{}/a\ntouch canary\n#", "{}/a\rb", "{}/a\x1b]0;b", "{}/a\u202eb", "a\n/../{}/b"])
def test_directory_of_results_has_no_control_characters(name, text):
    """Slurm's script would have its line break, and a terminal its escape sequence."""
    kind = name.removesuffix(".dir")
    path = text.format({"run": "outputs", "sweep": "multirun"}[kind])
    hydra = OmegaConf.create({kind: {"dir": path}})
    keys = [problem.key for problem in hydra_guard.place(hydra, name, is_typed=True)]
    assert keys == ([] if ".." in path else [f"hydra.{name}"])  # `..` removes the line break


@pytest.mark.parametrize("typed", ["name=..", "name=../..", "name=a/../../..", "name=/etc", r"name='a\${vars.x}'"])
def test_name_leads_nowhere_else(typed):
    """A name of a run is no path to another directory."""
    with composer(request := Request((typed,))), pytest.raises(ConfigError) as caught:
        checked(request)
    assert {problem.key for problem in caught.value.problems} <= {"name", "hydra.run.dir"}


def test_clock_stands_still(compose):
    """Two readings of `now` are equal: what was checked is what is used."""
    first, second = (compose("+vars.x='${now:%f}'").vars.x for _ in range(2))
    cfg = compose("+vars.x='${now:%f}'", "+vars.y='${now:%f}'")
    assert cfg.vars.x == cfg.vars.y
    assert first.isdigit()
    assert second.isdigit()


def test_canary_works(canary):
    """The positive control: Hydra runs such nodes if nobody checks them."""
    (canary.parent / "source").write_text("")
    instantiate(
        OmegaConf.create({"x": "${y}", "y": {"_target_": "shutil.copy", "src": "source", "dst": str(canary)}}).x
    )
    assert canary.exists()
    canary.unlink()
    handler = {"class": "logging.FileHandler", "filename": str(canary), "formatter": "x"}
    config = {"version": 1, "formatters": {"x": {"format": "import os; %(message)s"}}, "handlers": {"x": handler}}
    code = f"from logging.config import dictConfig; dictConfig({config!r})"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert canary.exists()
    canary.unlink()


PROGRAMS = {
    "core.fsmonitor": "{}",
    "core.hooksPath": "hooks",
    "core.pager": "{}",
    "diff.external": "{}",
    "diff.x.textconv": "{}",
    "diff.x.command": "{}",
    "filter.x.clean": "{}",
    "filter.x.process": "{}",
    "filter.y=z.clean": "{}",  # `git -c` would end its name at the first `=`
    "core.sshCommand": "{}",
    "core.editor": "{}",
    "core.askPass": "{}",
    "core.alternateRefsCommand": "{}",
}


@pytest.fixture
def repository(own_directory, monkeypatch, canary):
    """A repository with changes whose config names programs that create the canary; a list of other settings."""
    from hydratune.utils import provenance

    home = own_directory / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    program = own_directory / "evil.sh"
    program.write_text(f"#!/bin/sh\ntouch {canary}\ncat\n")
    program.chmod(0o755)
    root = own_directory / "cloned"
    (root / "hooks").mkdir(parents=True)
    for hook in ("post-index-change", "fsmonitor-watchman", "reference-transaction"):
        (root / "hooks" / hook).symlink_to(program)
    monkeypatch.chdir(root)
    for name in ("a", "b"):
        (root / name).write_text("1\n")
    (root / ".gitattributes").write_text("a diff=x filter=x\nb filter=y=z\n")
    author = ["-c", "user.name=a", "-c", "user.email=b"]
    for command in (["init", "-q"], ["add", "a", "b", ".gitattributes"], [*author, "commit", "-qm", "x"]):
        subprocess.run(["git", *command], check=True)  # noqa: S607
    for name in ("a", "b"):
        (root / name).write_text("2\n")

    def configure(*names):
        for name in names:
            value = PROGRAMS[name].format(program)
            subprocess.run(["git", "config", name, value], check=True)  # noqa: S607
        return provenance

    return configure


def redirected(way, private, clone):
    """Let the `.git` of a directory lead to another repository."""
    git, theirs = clone / ".git", private / ".git"
    if way == "file":
        git.write_text(f"gitdir: {theirs}\n")
    elif way == "link":
        git.symlink_to(theirs)
    elif way == "worktree of its own":
        (clone / "worktrees" / "x").mkdir(parents=True)
        git.write_text("gitdir: worktrees/x\n")
        for name, text in (("gitdir", git), ("commondir", theirs), ("HEAD", (theirs / "HEAD").read_text().strip())):
            (clone / "worktrees" / "x" / name).write_text(f"{text}\n")
    else:
        subprocess.run(["git", "init", "-q", str(clone)], check=True)  # noqa: S607
        if way == "commondir":
            (git / "commondir").write_text(f"{theirs}\n")
        if way in ("refs and alternates", "refs and objects"):
            shutil.rmtree(git / "refs")
            (git / "refs").symlink_to(theirs / "refs")
            (git / "HEAD").write_text((theirs / "HEAD").read_text())
        if way == "refs and alternates":
            (git / "objects" / "info" / "alternates").write_text(f"{theirs / 'objects'}\n")
        if way == "refs and objects":
            shutil.rmtree(git / "objects")
            (git / "objects").symlink_to(theirs / "objects")


@pytest.mark.parametrize(
    "way", ["file", "link", "worktree of its own", "commondir", "refs and alternates", "refs and objects"]
)
def test_git_diff_shows_no_other_repository(repository, monkeypatch, own_directory, way):
    """The diff is uploaded with the run; `.git` of a directory from someone else must not lead to a private one."""
    provenance = repository()
    private, clone = own_directory / "cloned", own_directory / "theirs"
    clone.mkdir()
    redirected(way, private, clone)
    monkeypatch.chdir(clone)
    shown = subprocess.run(["git", "diff", "HEAD"], capture_output=True, check=False)  # noqa: S607
    assert b"-1" in shown.stdout  # positive control: git shows it
    for read in (provenance.git_diff, provenance.git_commit):
        with pytest.raises(OSError, match="repository"):
            read()


def test_git_diff_of_a_worktree_and_a_submodule(repository, monkeypatch, own_directory):
    """Both have their repository elsewhere, which knows them."""
    provenance = repository()
    command = ["git", "-c", "protocol.file.allow=always", "-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run([*command, "worktree", "add", "-q", "../tree"], check=True)
    subprocess.run([*command, "init", "-q", "../parent"], check=True)
    subprocess.run([*command, "-C", "../parent", "submodule", "--quiet", "add", "../cloned", "sub"], check=True)
    for folder in ("tree", "parent/sub"):
        monkeypatch.chdir(own_directory / folder)
        Path("a").write_text("2\n")
        assert "-1\n+2" in provenance.git_diff()


@pytest.mark.parametrize("name", [*PROGRAMS, "all"])
def test_git_runs_no_program_of_a_repository(repository, name):
    """The commit and the diff of a repository from someone else are read without its programs."""
    provenance = repository(*(PROGRAMS if name == "all" else [name]))
    assert str(provenance.git_commit()).endswith("-dirty")
    assert "-1\n+2" in provenance.git_diff()


@pytest.mark.parametrize(
    "name", ["core.fsmonitor", "diff.external", "diff.x.textconv", "filter.x.clean", "filter.y=z.clean"]
)
def test_git_programs_work(repository, canary, name):
    """The positive control: plain git runs them."""
    repository(name)
    subprocess.run(["git", "status"], check=False, capture_output=True)  # noqa: S607
    subprocess.run(["git", "diff", "HEAD"], check=False, capture_output=True)  # noqa: S607
    assert canary.exists()
    canary.unlink()


def test_diff_shows_no_other_directory(repository, own_directory):
    """`core.worktree` must not bring the user's own files into the record of a run."""
    provenance = repository()
    (own_directory / "home" / "a").write_text("private\n")
    subprocess.run(["git", "config", "core.worktree", str(own_directory / "home")], check=True)  # noqa: S607
    shown = subprocess.run(["git", "diff", "HEAD"], check=True, capture_output=True, text=True).stdout  # noqa: S607
    assert "private" in shown  # the positive control
    assert "private" not in provenance.git_diff()


@pytest.mark.parametrize("place", ["parent", "absolute"])
def test_diff_shows_no_file_that_only_the_index_names(repository, own_directory, place):
    """Git does not check the paths in an index, which can be shipped with a directory."""
    provenance = repository()
    private = own_directory / "private"
    private.write_text("private\n")
    name = "../private" if place == "parent" else str(private)
    placeholder = Path("x" * len(name))
    placeholder.write_text("old\n")
    subprocess.run(["git", "add", placeholder], check=True)  # noqa: S607
    placeholder.unlink()
    index = Path(".git/index").read_bytes()[:-20].replace(str(placeholder).encode(), name.encode())
    Path(".git/index").write_bytes(index + hashlib.sha1(index).digest())  # noqa: S324 (git's own)
    shown = subprocess.run(["git", "diff", "HEAD"], check=True, capture_output=True, text=True).stdout  # noqa: S607
    assert "+private" in shown  # the positive control
    with pytest.raises(OSError, match="index"):
        provenance.git_diff()


def test_stored_directory_is_not_entered(own_directory):
    """A run of someone else that says where it was started is not run there."""
    from hydratune.utils.files import check_started_here

    (own_directory / "there").mkdir()
    with pytest.raises(ConfigError) as caught:
        check_started_here(str(own_directory / "there"), "hydratune resume x")
    assert [problem.key for problem in caught.value.problems] == ["the current directory"]
    assert Path.cwd() == own_directory
    check_started_here(str(own_directory), "hydratune resume x")
    check_started_here("/nonexistent", "hydratune resume x")
    (own_directory / "link").symlink_to(own_directory)
    check_started_here(str(own_directory / "link"), "hydratune resume x")
