"""Sweeps on a real PostgreSQL, started here: several machines share one study, and several sweeps one database."""

import gc
import itertools
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sql

from hydratune.config.composition import Request
from hydratune.sweep import storage
from hydratune.sweep.config import Sweep
from hydratune.sweep.plan import make_plan
from hydratune.sweep.study import OWNER, Study
from hydratune.utils.errors import ConfigError
from hydratune.utils.process import HOST
from real_sweeps import GRID, SIX, completed, ended, signed, signs, start, studies

USER, PASSWORD = "tuner", "open-sesame-4711"
STORAGE = "sweep.storage=${oc.env:SWEEP_STORAGE}"


def programs():
    """Where PostgreSQL's programs lie; None where it is not installed."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *map(Path, filter(None, [shutil.which("initdb")]))]
    return found[-1].resolve().parent if found else None


pytestmark = [
    pytest.mark.skipif(not programs(), reason="PostgreSQL is not installed (Debian's package postgresql)"),
    pytest.mark.filterwarnings("ignore:<psycopg.Connection:ResourceWarning"),  # a worker's end with its process
]


@pytest.fixture(autouse=True)
def let_go():
    """Ends the connections of a test's studies while that warning is off."""
    yield
    gc.collect()


def as_postgres():
    """How to start its programs, which refuse to run as root."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}


@pytest.fixture(scope="module")
def control():
    """A PostgreSQL with a password on a free port of loopback: its address, and what starts and stops it."""
    folder = Path(tempfile.mkdtemp(prefix="hydratune-postgresql-"))  # pytest's own folders are closed to other users
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    secret, data = folder / "password", folder / "data"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    login = ["--username", USER, "--pwfile", secret, "--auth", "scram-sha-256"]
    run = {"cwd": folder, "stdout": subprocess.DEVNULL, **as_postgres()}
    subprocess.run([programs() / "initdb", "--no-sync", "--encoding", "UTF8", *login, data], check=True, **run)
    options = f"-h 127.0.0.1 -p {port} -k {folder} -F"

    def pg_ctl(*what):
        subprocess.run([programs() / "pg_ctl", *what, "-w", "-D", data], check=True, **run)

    begin, stop = ("start", "-l", folder / "log", "-o", options), ("stop", "-m", "immediate")
    pg_ctl(*begin)
    try:
        yield f"{USER}:{PASSWORD}@127.0.0.1:{port}", partial(pg_ctl, *begin), partial(pg_ctl, *stop)
    finally:
        pg_ctl(*stop)
        shutil.rmtree(folder)


@pytest.fixture
def server(control):
    """The address of the PostgreSQL."""
    return control[0]


@pytest.fixture
def database(server, request):
    """The address of an empty database, as a user gives it."""
    name = f"db{abs(hash(request.node.name))}"
    with execution(f"postgresql://{server}/postgres") as connection:
        connection.execute(sql.text(f"CREATE DATABASE {name}"))
    return f"postgresql://{server}/{name}"


def driven(database):
    """The same address, as SQLAlchemy takes it."""
    return database.replace("postgresql:", "postgresql+psycopg:")


def execution(database):
    """A connection whose statements count at once."""
    engine = sql.create_engine(driven(database), isolation_level="AUTOCOMMIT", poolclass=sql.NullPool)
    return engine.connect()


@pytest.fixture
def machines(toy_files, own_directory):
    """Two directories of the same name with the same files, as two machines have them."""
    folders = [own_directory / name / "films" for name in ("one", "two")]
    for folder in folders:
        folder.mkdir(parents=True)
        for override in toy_files[1:]:
            shutil.copy(override.partition("=")[2], folder)
    return folders


@pytest.mark.slow
def test_two_sweepers_share_one_study(toy, own_directory, machines, database):
    """The same command on two machines: together exactly the grid; a third start shows it and trains nothing.

    The password of the database is in no file.
    """
    people = own_directory / "people"
    typed = [*toy, *GRID, STORAGE, "tracking=none", signs(people, people=2)]
    processes = [start(*typed, cwd=folder, SWEEP_STORAGE=database) for folder in machines]
    for process in processes:
        ended(process)
    (study,) = studies(driven(database))
    assert completed(study) == SIX
    assert len({trial.user_attrs[OWNER]["worker"] for trial in study.get_trials()}) == 2
    again = ended(start(*typed, cwd=machines[0], SWEEP_STORAGE=database))
    assert "6 of 6 trials" in again
    assert len(signed(people)) == 2
    files = [path for path in own_directory.rglob("*") if path.is_file()]
    assert [path.name for path in files].count("sweep.json") == 2
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]


@pytest.mark.slow
def test_two_sweeps_in_one_database(toy, own_directory, machines, database):
    """Different sweeps that start at the same time on one database each train what is theirs."""
    people = own_directory / "people"
    typed = [*toy, STORAGE, "tracking=none", signs(people, people=2)]
    processes = [
        start(*typed, f"trainer.args.{key}=0.002,0.02", cwd=folder, SWEEP_STORAGE=database)
        for key, folder in zip(("learning_rate", "weight_decay"), machines, strict=True)
    ]
    for process in processes:
        ended(process)
    found = studies(driven(database))
    assert len(found) == 2
    assert {tuple(study.get_trials()[0].params) for study in found} == {
        ("trainer.args.learning_rate",),
        ("trainer.args.weight_decay",),
    }
    assert all(completed(study) == Counter([(0.002,), (0.02,)]) for study in found)


@pytest.mark.slow
def test_the_database_is_down_in_the_middle(toy, machines, database, control):
    """It is stopped as by a crash while two workers train, for longer than a trial: they wait, and end each trial once."""
    _, begin, stop = control
    typed = [*toy, *GRID, STORAGE, "tracking=none", "sweep.workers=2", "trainer.args.num_train_epochs=20"]
    process = start(*typed, cwd=machines[0], SWEEP_STORAGE=database)
    while not list(machines[0].glob("multirun/*/*/metrics.json")):
        assert process.poll() is None, process.said()
        time.sleep(0.1)
    stop()
    try:
        time.sleep(10)
    finally:
        begin()
    said = ended(process)
    assert [line for line in said.splitlines() if "waiting" in line and "database" in line], said
    assert [line for line in said.splitlines() if "database" in line and "again" in line], said
    assert PASSWORD not in said
    (study,) = studies(driven(database))
    assert completed(study) == SIX
    assert [trial.user_attrs.get("failures") for trial in study.trials] == [None] * 6


# --- the study alone -------------------------------------------------------------------------------------


@pytest.fixture
def plan(toy, database, monkeypatch):
    """Of a sweep of twelve trials on the database, which the user has named, and its options."""
    monkeypatch.setenv("HYDRATUNE_SERVERS", database)
    found, _ = make_plan(Request((*toy, f"seed={','.join(map(str, range(12)))}")))
    return found, Sweep(storage=database)


def claim_all(plan, options, gate):
    """Claims and ends trials until none is left, in a process of its own; returns their numbers."""
    gate.wait()  # so that all make the tables at the same moment
    study, numbers = Study(plan, options), []
    while claim := study.claim():
        numbers.append(claim.trial.number)
        study.finish(claim, [0.5], {})
    return numbers


@pytest.mark.slow
def test_workers_on_an_empty_database(plan):
    """Three workers that open an empty database at the same moment end each trial once, each point once."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(3) as pool:
        gate = manager.Barrier(3)
        numbers = pool.starmap(claim_all, [(*plan, gate)] * 3)
    assert sorted(itertools.chain(*numbers)) == list(range(12))
    assert completed(Study(*plan).study) == Counter((seed,) for seed in range(12))


@pytest.mark.slow
def test_a_worker_that_died_elsewhere(plan, monkeypatch):
    """The trial of a worker on another machine is taken over once there was no sign of life of it for long."""
    dead, other = Study(*plan), Study(*plan)
    lost = dead.claim()
    dead.note(lost, OWNER, {**lost_owner(dead, lost), HOST: "elsewhere"})
    living = other.claim()
    assert living.trial.number != lost.trial.number
    monkeypatch.setattr(storage, "GRACE", 0)
    taken = other.claim()
    assert (taken.trial.number, taken.point) == (lost.trial.number, lost.point)
    dead.finish(lost, [0.1], {})  # it was not dead after all
    other.finish(taken, [0.9], {})
    assert other.trials()[lost.trial.number].values == [0.9]


def lost_owner(study, claim):
    """Who a trial belongs to by the study."""
    return study.storage.get_trial(claim.trial._trial_id).user_attrs[OWNER]


@pytest.mark.slow
def test_few_connections(plan, database):
    """A worker that looks again and again whether others are alive takes no more connections for it."""
    study = Study(*plan)
    for _ in range(3):
        claim = study.claim()
        study.note(claim, OWNER, {**lost_owner(study, claim), HOST: "elsewhere"})
    open_now = sql.text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    with execution(database) as connection:
        counts = [connection.execute(open_now).scalar() for _ in range(5) if study.has_work()]
    assert len(counts) == 5
    assert len(set(counts)) == 1


def test_another_sweep_of_the_same_name(plan):
    """It is refused, and the message does not tell the password."""
    found, options = plan
    Study(found, options)
    with pytest.raises(ConfigError) as caught:
        Study(replace(found, identity={**found.identity, "objective": "eval_loss"}), options)
    (problem,) = caught.value.problems
    assert problem.key == "objective"
    assert problem.message.endswith("'eval_loss'")
    assert PASSWORD not in str(caught.value)


def test_a_database_that_is_not_there(plan, database):
    """It is an error of the user, told without the password."""
    found, options = plan
    with pytest.raises(ConfigError) as caught:
        Study(found, replace(options, storage=database + "_not"))
    assert [problem.key for problem in caught.value.problems] == ["sweep.storage"]
    assert PASSWORD not in str(caught.value)
