"""The command line as a user meets it: exit codes, one message, nothing half-written, light starts."""

import contextlib
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hydratune.cli.main import VERBS, dispatch
from hydratune.tracking.client import connect
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import FAILED, INTERRUPTED, SAVED, USER_ERROR
from processes import HYDRATUNE, LONG, hydratune, start


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--cfg", "job"], ["configs"], ["--cfg", "job", "seed=7"], ["sweep", "--help"]]
)
def test_light_starts(arguments):
    """Looking around imports none of torch, transformers, datasets and mlflow."""
    code = (
        "import sys; sys.argv = ['hydratune', *sys.argv[1:]]\n"
        "from hydratune.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'transformers', 'datasets', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_command_starts_without_standard_streams(closed, own_directory):
    """It succeeds, and no file that it opens gets the number of a standard stream, into which libraries print."""
    code = (
        "import os, sys; sys.argv = ['hydratune', 'configs']\n"
        "from hydratune.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "with open('numbers', 'w') as file: file.write(str(file.fileno() > 2))"
    )
    command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} {closed}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)  # noqa: S607
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (own_directory / "numbers").read_text() == "True"


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["--help"], ["--hydra-help"], ["--info", "config"]])
def test_printing_imports_no_code_of_runs(arguments, tmp_path, monkeypatch):
    """Flags that only print import nothing of the packages that train, sweep, read data, or record.

    Reading the servers that the user has typed before needs no pydantic either.
    """
    (tmp_path / "hydratune").mkdir()
    (tmp_path / "hydratune" / "servers.json").write_text('["https://mlflow.example:443"]')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    code = (
        "import sys; sys.argv = ['hydratune', *sys.argv[1:]]\n"
        "from hydratune.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "packages = {name.split('.')[1] for name in sys.modules if name.startswith('hydratune.')}\n"
        "assert packages <= {'cli', 'config', 'utils', 'conf'}, packages\n"
        "assert not {'hydratune.cli.train', 'pydantic'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("arguments", [["--help"], ["help"], ["-h"]])
def test_help_fits_one_screen_and_names_every_command(capsys, arguments):
    """All commands, in at most 45 lines of at most 80 columns."""
    with pytest.raises(SystemExit) as end:
        dispatch(arguments)
    assert not end.value.code
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80
    assert {*VERBS} <= {line.split()[0] for line in lines if line.startswith("  ")}


@pytest.mark.parametrize("verb", sorted({*VERBS} - {"train", "help"}))
def test_help_of_each_command_fits_80_columns(capsys, monkeypatch, verb):
    """Paragraphs wrap; examples and usage are short enough."""
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):
        dispatch([verb, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_options_may_stand_between_arguments():
    """`compare A --metric f1 B` names two runs."""
    parser = ArgumentParser()
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--metric")
    args = parser.parse_args(["a", "--metric", "f1", "b"])
    assert (args.runs, args.metric) == (["a", "b"], "f1")


def test_hydra_help_lists_all_options(capsys):
    """Hydra's options and our own."""
    assert dispatch(["--hydra-help"]) == 0
    out = capsys.readouterr().out
    assert "--config-name" in out
    assert "--dry-run" in out or "-n" in out.split()


COMMANDS = [*VERBS, *(f"sweep {name}" for name in ("plan", "status", "report", "finish"))]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_form_of_help_describes_the_command(capsys, command):
    """`help X`, `X --help`, and `X -h` print the same text, which begins with the usage of X."""
    words, outputs = command.split(), set()
    for arguments in (["help", *words], [*words, "--help"], [*words, "-h"]):
        with contextlib.suppress(SystemExit):
            dispatch(arguments)
        outputs.add(capsys.readouterr().out)
    (output,) = outputs
    assert output.startswith(f"usage: hydratune {command}")


def test_help_into_a_closed_pipe_prints_no_error():
    """`hydratune --help | head` is no error of a config."""
    command = f"{shlex.quote(HYDRATUNE)} --help | true"
    done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_cfg_shows_overrides():
    """`--cfg job` prints the composed config, with what was typed."""
    done = hydratune("--cfg", "job", "trainer.args.learning_rate=3e-5", "trainer.args.adam_beta2=0.98")
    assert "learning_rate: 3.0e-05" in done.stdout
    assert "adam_beta2: 0.98" in done.stdout


def test_completion():
    """Tab completion offers options and keys."""
    for line, offered in (
        ("hydratune dataset=w", "dataset=wordnet_supersense"),
        ("hydratune trainer.args.le", "learning_rate="),
    ):
        done = hydratune("-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
        assert offered in done.stdout


def test_errors_end_with_2_and_leave_nothing(own_directory):
    """All errors, of choices and of values, are printed with a hint and their number, without a traceback."""
    done = hydratune("dataset=locl", "dataset.files.train=x", "trainer.args.learning_rat=1", "sede=1")
    assert done.returncode == 2
    assert done.stdout == ""
    *lines, last = done.stderr.splitlines()
    assert [line.partition(":")[0].strip() for line in lines] == ["error", "hint"] * 3
    named = [line.partition("'")[2].rstrip("'") for line in lines[::2]]
    assert sorted(named) == ["learning_rat", "locl", "sede"]
    assert last == "3 errors; nothing was run"
    assert list(own_directory.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named", "hint"),
    [
        (["seed=1,2"], "'1,2'", "-m"),
        (["trian"], "'trian'", "train"),
        (["tracking.uri=sqlite:///."], "tracking.uri ", "tracking.uri=sqlite:///./mlflow.db"),
        (["a=["], "a=[", None),
        (["--config-dir", "nowhere"], "'nowhere'", None),
        (["-m", "--cfg", "job", "seed=1,2"], "--multirun and --cfg", "--multirun --dry-run"),
        (["--experimental-rerun", "x.pickle"], "--experimental-rerun", ".hydra/overrides.yaml"),
        (["hydra/launcher=zzz"], "zzz", ""),
        (["configs", "modl"], "'modl'", "model"),
        (["configs", "copy", "dataset/locl", "my_conf"], "'locl'", "dataset/local"),
        (["configs", "copy", "dataset/zzz", "my_conf"], "'zzz'", "hydratune configs dataset"),
        (["configs", "copy", "zzz/local", "my_conf"], "'zzz/local'", "hydratune configs`"),
        (["configs", "copy", "dataset/local"], "requires", "hydratune configs copy dataset/local my_conf"),
        (["sweep", "finnish"], "'finnish'", "finish"),
        (["sweep", "seed=1,2"], "'seed=1,2'", "hydratune -m"),
        (["ui"], "/outputs/mlflow.db'", "run directory"),
        (["ui", "nowhere"], "'nowhere'", "outputs/"),
        (["experiment=mrpc"], "'google-bert/bert-base-uncased'", "HF_ENDPOINT"),
    ],
)
def test_one_error_names_what_was_typed_and_suggests_a_fix(arguments, named, hint):
    """An error of a command names what was typed, has a hint if something can be suggested, and ends with code 2."""
    done = hydratune(*arguments)
    assert done.returncode == 2
    error, *hints = done.stderr.splitlines()
    assert error.startswith("error: ") and named in error
    assert {line.partition(": ")[0] for line in hints} == (set() if hint is None else {"  hint"})
    assert hint is None or any(hint in line for line in hints)


def test_a_error_in_the_data_leaves_nothing(toy, own_directory):
    """What only the rows can show is told before training, and the run's directory is taken away again."""
    (own_directory / "test.jsonl").write_text('{"text": "a", "label": "unknown"}\n')
    before = set(own_directory.iterdir())
    done = hydratune(*toy)
    assert done.returncode == 2
    row, _ = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert row.startswith("error: test.jsonl:1: ") and "'unknown'" in row
    assert "dataset.unseen_labels=keep" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr
    assert set(own_directory.iterdir()) == before


def test_errors_mask_values_of_the_environment(monkeypatch):
    """An invalid value that a config reads from the environment is not printed."""
    monkeypatch.setenv("MY_SECRET", "canary-51ab")
    done = hydratune("sweep.storage=https://host/${oc.env:MY_SECRET}")
    assert (done.returncode, done.stderr.count("https://host/***")) == (2, 1)
    assert "canary" not in done.stdout + done.stderr


@pytest.mark.slow
def test_what_was_trained_is_never_taken_away(toy, own_directory):
    """An error that is found only after a checkpoint was written leaves the run's directory alone."""
    code = """
import sys
from hydratune.cli import main, train
from hydratune.utils.errors import ConfigError, Problem

def late(cfg, job):
    (job.directory / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    raise ConfigError(Problem("late", "too late", "c"))

train.run = late
sys.argv[0] = "hydratune"
main.main()
"""
    arguments = [*toy, "hydra.run.dir=runs/x", "tracking=none"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-2:]) == (2, ["error: too late", "  hint: c"])
    assert (own_directory / "runs/x/checkpoints/checkpoint-1").is_dir()


def test_a_run(toy, own_directory):
    """A run shows its metrics, its files and how to open MLflow; a second one gets a directory of its own."""
    folder = "hydra.run.dir=runs/film"
    first = hydratune(*toy, folder, "tracking=none")
    assert first.returncode == 0, first.stderr
    assert "accuracy" in first.stdout
    assert "files    runs/film" in first.stdout
    assert "run: runs/film" in (own_directory / "runs/film/hydratune.log").read_text()
    assert (own_directory / "runs/film/.hydra/overrides.yaml").is_file()
    second = hydratune(*toy, folder, "tracking=none")
    assert "files    runs/film-2" in second.stdout
    metrics = [json.loads((own_directory / f"runs/film{n}/metrics.json").read_text()) for n in ("", "-2")]
    assert metrics[0]["test_loss"] == metrics[1]["test_loss"]


@pytest.mark.slow
def test_a_multirun(toy, own_directory, store):
    """`-m` trains each value once, in one sweep directory, and says how to see them together; a wrong value starts none."""
    assert store
    done = hydratune("-m", *toy, "seed=1,2", "hydra.sweep.dir=sweep", "trainer.args.max_steps=1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^MLflow   \S*hydratune ui sweep$", done.stdout, re.MULTILINE)
    assert {path.parent.name for path in own_directory.glob("sweep/*/metrics.json")} == {"0", "1"}
    wrong = hydratune("-m", *toy, "seed=1,x", "hydra.sweep.dir=other", "tracking=none")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "'x'" in wrong.stderr
    assert not (own_directory / "other").exists()


def test_version(capsys):
    """`--version` is ours, not Hydra's."""
    assert dispatch(["--version"]) == 0
    assert re.fullmatch(r"hydratune \d+\.\d+\.\d+\n", capsys.readouterr().out)


OUT_OF_MEMORY = (
    "import torch\n"
    "from transformers import TrainerCallback\n"
    "class Full(TrainerCallback):\n"
    "    def on_step_end(self, args, state, control, **_):\n"
    "        torch.empty(2**45)\n"
)


def test_out_of_memory(toy, own_directory):
    """It ends with 1, the traceback in the log of the kept directory, and what to change as the last words."""
    (own_directory / "full.py").write_text(OUT_OF_MEMORY)
    given = [*toy, "trainer.callbacks.full._target_=full.Full", "tracking=none", "hydra.run.dir=run"]
    done = hydratune(*given, PYTHONPATH=str(own_directory), HYDRATUNE_ALLOW="full")
    assert done.returncode == 1
    assert "out of memory: lower trainer.args.per_device_train_batch_size" in done.stderr
    assert "its files are in run" in done.stderr
    assert "Traceback" in (own_directory / "run/hydratune.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_interruption(toy, own_directory, store, sent):
    """A signal ends a training after its step and a checkpoint, with a code of its own; MLflow says KILLED."""
    process = start(*toy, "trainer.args.num_train_epochs=100000", "hydra.run.dir=runs/x")
    try:
        while not list(own_directory.glob("runs/x/checkpoints/checkpoint-*")):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(sent)
        _, err = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 75
    assert "hydratune: stopping after this step and a checkpoint" in err.splitlines()  # no key stops a batch job
    assert "resume runs/x" in err
    assert "Traceback" not in err
    pointer = json.loads((own_directory / "runs/x/mlflow.json").read_text())
    assert connect(store).get_run(pointer["run_id"]).info.status == "KILLED"


@pytest.mark.slow
@pytest.mark.parametrize(("times", "code"), [(1, 75), (2, 130)])
def test_a_signal_is_not_lost(toy, own_directory, times, code):
    """Where the exception of a signal is swallowed, as in a finalizer, the run ends at the next step all the same."""
    kill = "    try: os.kill(os.getpid(), signal.SIGINT)\n    except BaseException: pass\n"
    code_of_user = (
        "import os, signal, sys\n"
        "from hydratune.cli.main import main\n"
        "from hydratune.tasks.single_label import SingleLabelTask\n"
        "def lose(self, prediction, evaluated):\n"
        f"{kill * times}"
        "    return {'accuracy': 0.0, 'f1': 0.0, 'matthews_correlation': 0.0}\n"
        "SingleLabelTask.compute_metrics = lose\n"
        "main()"
    )
    endless = ["trainer.args.num_train_epochs=100000", "tracking=none", "hydra.run.dir=run"]
    command = [sys.executable, "-c", code_of_user, *toy, *endless]
    done = subprocess.run(command, capture_output=True, timeout=LONG, check=False)
    assert done.returncode == code
    assert (own_directory / "run").is_dir()


LIBRARY = """
import os, signal, sys
from hydratune.cli import main
from hydratune.utils.errors import ConfigError, Problem

def interrupted(arguments):
    try:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    finally:
        raise {"user": ConfigError(Problem("a", "b", "c")), "library": KeyError("x")}[sys.argv[2]]

main.dispatch = interrupted
main.main()
"""


@pytest.mark.parametrize("error", ["user", "library"])
@pytest.mark.parametrize(("name", "code"), [("SIGINT", INTERRUPTED), ("SIGTERM", SAVED), ("SIGURG", None)])
def test_error_after_a_signal_does_not_hide_it(name, code, error):
    """A library that is interrupted can raise an error of its own; without a signal, the error counts."""
    done = subprocess.run([sys.executable, "-c", LIBRARY, name, error], capture_output=True, text=True, check=False)
    expected = {"user": USER_ERROR, "library": FAILED}[error] if code is None else code
    assert (done.returncode, "Traceback" in done.stderr) == (expected, expected == FAILED), done.stderr


def test_copy_a_config():
    """`configs copy` writes a file under a new name and prints the command that uses it, which works."""
    done = hydratune("configs", "copy", "dataset/local", "my_conf")
    assert done.stdout.splitlines() == [
        "my_conf/dataset/my_local.yaml",
        "use it: hydratune --config-dir my_conf dataset=my_local",
    ]
    shown = hydratune("--config-dir", "my_conf", "dataset=my_local", "--cfg", "job", "dataset.files.train=a.csv")
    assert "train: a.csv" in shown.stdout
    again = hydratune("configs", "copy", "dataset/local", "my_conf")
    assert again.returncode == 2
    shadow = hydratune("configs", "copy", "dataset/local", "my_conf", "--name", "hub")
    assert (shadow.returncode, "'hub'" in shadow.stderr, "my_local" in shadow.stderr) == (2, True, True)


def write_primary(folder):
    """A primary config of one's own: the shipped one, with the shipped configs on its search path."""
    shipped = Path(__file__).parents[2] / "conf" / "train.yaml"
    searchpath = "hydra:\n  searchpath: [pkg://hydratune.conf]\n"
    (folder / "train.yaml").write_text(shipped.read_text().replace("hydra:\n", searchpath, 1))


def test_shadowing_a_shipped_config(own_directory):
    """A primary config of one's own, with the shipped ones on its search path, may replace any of them."""
    mine = own_directory / "mine"
    (mine / "model").mkdir(parents=True)
    write_primary(mine)
    (mine / "model" / "minilm.yaml").write_text("# mine\ndefaults: [pretrained]\npretrained_model_name_or_path: me/x\n")
    done = hydratune("--config-path", str(mine), "--cfg", "job")
    assert "me/x" in done.stdout
    check = hydratune("--config-path", str(mine), "sede=1")
    assert "'sede'" in check.stderr


def test_both_kinds_of_own_directories(own_directory):
    """`--config-dir` adds to a primary config of one's own, and what that names stays reachable."""
    mine, more = own_directory / "mine", own_directory / "more"
    (more / "model").mkdir(parents=True)
    mine.mkdir()
    write_primary(mine)
    (more / "model" / "own.yaml").write_text("# mine\ndefaults: [pretrained]\npretrained_model_name_or_path: me/x\n")
    done = hydratune("--config-path", str(mine), "--config-dir", "more", "model=own", "sede=1")
    assert "'sede'" in done.stderr
    assert "'me/x'" in done.stderr
