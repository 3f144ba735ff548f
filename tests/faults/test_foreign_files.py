"""Files of a cloned project or of someone else's sweep: nothing runs, and no other file is read or deleted."""

import json
import os
import sqlite3
import struct
import subprocess
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydratune.cli.main import dispatch
from hydratune.config import servers, user_settings
from hydratune.config.composition import Request, compose_config, composer
from hydratune.config.options import options
from hydratune.config.validate import check_config
from hydratune.sweep import storage
from hydratune.tracking import client
from hydratune.utils import report_page
from hydratune.utils.errors import ConfigError
from hydratune.utils.sqlite_files import journal_problem
from processes import HYDRATUNE

ENDPOINT = "hardware.launch.rdzv_endpoint"
PAYLOAD = "$(echo${IFS}X>CANARY)"
MAGIC = bytes.fromhex("d9d505f920a163d7")


@pytest.fixture
def victim(own_directory):
    """Return a file that a planted journal names as its super-journal, next to the database `study.db`."""
    with sqlite3.connect(own_directory / "study.db") as connection:
        connection.execute("create table t (x)")
    connection.close()
    database = own_directory / "study.db"
    page = struct.unpack(">H", database.read_bytes()[16:18])[0]
    header = MAGIC + struct.pack(">IIIII", 0, 12345, database.stat().st_size // page, 512, page)
    file = own_directory / "victim"
    file.write_text("precious")
    name = str(file).encode()
    end = struct.pack(">I", 0x40000000 // page + 1) + name + struct.pack(">II", len(name), sum(name)) + MAGIC
    Path(f"{database}-journal").write_bytes(header.ljust(512, b"\0") + end)
    return file


def test_sqlite_deletes_the_victim_of_a_planted_journal(victim):
    """The positive control: without the check, opening the database deletes the file."""
    with sqlite3.connect("study.db") as connection:
        connection.execute("select * from t").fetchall()
    connection.close()
    assert not victim.exists()


@pytest.mark.parametrize("connect", [storage.connect, client.connect], ids=["sweep", "mlflow"])
def test_planted_journal_is_an_error(victim, connect):
    """Before the database is opened."""
    with pytest.raises(ConfigError) as caught:
        connect(f"sqlite:///{Path('study.db').absolute()}")
    assert str(victim.parent / "study.db-journal") in caught.value.problems[0].text
    assert victim.read_text() == "precious"


def test_ordinary_journal_is_no_error(own_directory):
    """An interrupted transaction leaves one."""
    Path("a.db-journal").write_bytes(MAGIC + bytes(600))
    assert journal_problem(own_directory / "a.db", "sweep.storage") is None


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///file:/tmp/x.db?a=/../../y&uri=true",
        "sqlite:///outputs/a.db?uri=true",
        "sqlite+pysqlite:///FILE:x.db",
        "SQLite:///file:x.db",
    ],
)
def test_sqlite_address_with_parameters_is_an_error(uri):
    """SQLite would open another path than the one that was checked."""
    assert servers.problem(uri, "sweep.storage") is not None
    assert servers.problem("sqlite:///outputs/a.db", "sweep.storage") is None


def test_stored_sweep_names_no_server(make_sweep):
    """Its commands would connect with the user's password, e.g. of PGPASSWORD."""
    directory = make_sweep(lambda plan: plan["overrides"].append("++sweep.storage=postgresql://u@127.0.0.1:5996/x"))
    with pytest.raises(ConfigError) as caught:
        dispatch(["sweep", "status", directory])
    assert [problem.key for problem in caught.value.problems] == ["sweep.storage"]


@pytest.fixture
def make_sweep(toy):
    """Return the directory of a sweep whose stored plan was changed."""
    from fake_sweep import SPACE, fake, fake_study

    def make(change):
        directory = fake_study([*toy, *SPACE], fake(0.01, 0, 0.9)).plan.directory
        plan = json.loads((directory / "sweep.json").read_text())
        change(plan)
        (directory / "sweep.json").write_text(json.dumps(plan))
        return str(directory)

    return make


def test_config_that_is_a_link_out_of_its_folder_is_an_error(own_directory, tmp_path):
    """It would be read as a config, and recorded; a link inside the folder is read."""
    (tmp_path / "hosts.yml").write_text("oauth_token: private\n")
    folder = own_directory / "conf" / "leak"
    folder.mkdir(parents=True)
    (folder / "x.yaml").symlink_to(tmp_path / "hosts.yml")
    (folder / "real.yaml").write_text("y: 1\n")
    (folder / "inside.yaml").symlink_to(folder / "real.yaml")
    request = Request(("+leak@vars=x",), own_directory / "conf")
    with composer(request), pytest.raises(ConfigError):
        compose_config(request, ["+leak@vars=x"])
    with composer(request):
        assert compose_config(request, ["+leak@vars=inside"]).vars.y == 1


@pytest.mark.parametrize("name", ["show", "compare"])
def test_link_out_of_a_run_is_not_followed(name, make_linked_run):
    """Rows of another file would be shown, or written into a report."""
    with pytest.raises(ConfigError) as caught:
        dispatch([name, *make_linked_run(name)])
    assert "predictions.jsonl" in caught.value.problems[0].text


@pytest.fixture
def make_linked_run(own_directory, tmp_path, store):
    """Return the arguments of a command for two runs, the first of which has a link to a private file."""
    from hydratune.tracking.client import connect

    (tmp_path / "private.jsonl").write_text("{}\n")

    def make(name):
        mlflow, directories = connect(store), []
        for run in ("one", "two"):
            run_id = mlflow.create_run(mlflow.create_experiment(run)).info.run_id
            directory = own_directory / run
            (directory / ".hydra").mkdir(parents=True)
            (directory / ".hydra" / "overrides.yaml").write_text("[]\n")
            pointer = {"uri": store, "run_id": run_id, "experiment_id": "1"}
            (directory / "mlflow.json").write_text(json.dumps(pointer))
            directories.append(str(directory))
        (own_directory / "one" / "predictions.jsonl").symlink_to(tmp_path / "private.jsonl")
        return directories if name == "compare" else directories[:1]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("line", ["dataset=", "dataset.files.train=./data/"])
def test_completion_runs_no_code_of_a_project(own_directory, line):
    """Bash expands the words of `compgen -W`: names with `$(...)` are not offered."""
    for folder, name in (("conf/dataset", f"zz{PAYLOAD}.yaml"), ("data", f"a{PAYLOAD}.csv"), ("data", "plain.csv")):
        (own_directory / folder).mkdir(parents=True, exist_ok=True)
        (own_directory / folder / name).write_text("defaults:\n  - digits\n")
    (own_directory / "pyproject.toml").write_text('[tool.hydratune]\nconfig-dir = "conf"\n')
    text = f"hydratune {line}"
    environment = os.environ | {"COMP_LINE": text, "COMP_POINT": str(len(text))}
    done = subprocess.run([HYDRATUNE, "-sc", "query=bash"], env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.split()
    assert words
    assert [word for word in words if "$" in word or "(" in word] == []
    subprocess.run(["/bin/bash", "-c", 'compgen -W "$1" -- ""', "x", done.stdout], check=False, capture_output=True)
    assert not Path("CANARY").exists()
    hostile = f"dataset=zz{PAYLOAD}"  # the positive control
    subprocess.run(["/bin/bash", "-c", 'compgen -W "$1" -- ""', "x", hostile], check=False, capture_output=True)
    assert Path("CANARY").exists()


@pytest.mark.parametrize("part", ["../x", "/etc/passwd", "${oc.env:DATABASE_URL}"])
def test_package_path_stays_in_its_package(part, monkeypatch):
    """And takes no secret, whose changed form no mask would find."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:CANARYdbpw-77@db.example/prod")
    request = Request((f"+vars.x='${{package_path:torch,{part}}}'",))
    with composer(request), pytest.raises((ConfigError, OmegaConfBaseException)):
        OmegaConf.to_container(compose_config(request, [*request.overrides]).vars, resolve=True)


def test_configs_outside_the_folder_are_no_options(own_directory, tmp_path):
    """`configs show` and `configs search` would print them."""
    (tmp_path / "pgpass").write_text("localhost:5432:db:me:CANARY\n")
    folder = own_directory / "conf" / "dataset"
    folder.mkdir(parents=True)
    (folder / "p.yaml").symlink_to(tmp_path / "pgpass")
    (folder / "mine.yaml").write_text("x: 1\n")
    assert [option.name for option in options(own_directory / "conf")] == ["mine"]


def test_config_file_names_no_machine_to_join(compose):
    """The machines of a run exchange pickled objects."""
    cfg = compose("hardware=ddp", "hardware.launch.nnodes=2", "hardware.launch.node_rank=1", f"{ENDPOINT}=evil:1")
    assert [problem.key for problem in user_settings.rendezvous(cfg, [])] == [ENDPOINT]
    assert [*user_settings.rendezvous(cfg, [ENDPOINT])] == []


def test_tags_of_a_config_replace_none_of_mlflows(compose):
    """`mlflow.runName` blocked the upload of the run."""
    with pytest.raises(ConfigError) as caught:
        check_config(compose("++tracking.tags={mlflow.runName: evil}"))
    assert [problem.key for problem in caught.value.problems] == ["tracking.tags"]


def test_sweep_with_a_name_of_markup_is_corrupt(make_sweep):
    """Plots show the names of objectives and parameters."""
    directory = make_sweep(lambda plan: plan.update(objectives={"<a href=x>": "maximize"}))
    with pytest.raises(ConfigError) as caught:
        dispatch(["sweep", "status", directory])
    assert [problem.key for problem in caught.value.problems] == ["SWEEP"]


def test_pages_request_nothing():
    """Styles and images of values that a plot shows can name no address."""
    document = report_page.page("title", "block")
    assert "default-src 'none'" in document
    assert "http:" not in document.partition("Content-Security-Policy")[2].partition(">")[0]
