"""Tiny fakes: a network of a few thousand random weights and files of a few rows, so that a run takes a second."""

from __future__ import annotations

import gc
import json
import logging
import netrc
import os
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import absl.logging
import pytest
from omegaconf import DictConfig

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the hub's libraries
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # threads of torch that wait leave the cores to other tests

import preloaded
from hydratune.config import allowlist, composition, servers
from hydratune.config.composition import Request
from hydratune.config.project import project_settings
from hydratune.config.validate import check_config
from hydratune.tracking.delivery import POINTER
from hydratune.tracking.journal import JOURNAL
from hydratune.training.job import Job
from hydratune.utils import hub, image_formats, signals, watchdog
from hydratune.utils.errors import SAVED
from hydratune.utils.machine import available_cpus
from processes import blank_plot

WORDS = ["good", "bad", "film", "book", "very", "not", "the", "a", "was", "is", "great", "awful"]
_MANY = 100  # tests; fewer may do without what runs import
# Overrides for upstream's Trainer, which has no checks for NaN
UPSTREAM = ("~trainer.on_nan", "~trainer.max_skipped", "trainer._target_=transformers.Seq2SeqTrainer")
_TRAINING = {"train", "sweep"}  # fixtures that train
_MEMORY, _ENOUGH = Path("/dev/shm"), 8 * 2**30  # bytes


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores, since many tests wait for processes, servers, and locks."""
    return available_cpus() + 2


def pytest_configure() -> None:
    """Has the directories of tests in memory, if there is room for programs; starts no process that can be forked.

    In memory no commit waits for a disk.
    """
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ENOUGH and not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
    # absl's handler closes its stream when Hydra configures the logs: pytest's, once another fixture captures stderr.
    absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__
    preloaded.replace()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Mark tests that train through the command line as slow, so that `make test` takes minutes.

    Tests of clusters begin first: they wait for up to two minutes each, while other workers use the cores.
    """
    for item in items:
        if not _TRAINING.isdisjoint(item.fixturenames):
            item.add_marker("slow")
    items.sort(key=lambda item: "engines" not in item.path.parts)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leaves what runs import out of the collections of garbage that each of hundreds of them asks for."""
    if len(session.items) > _MANY:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those of libraries, which are errors in tests
            preloaded.warm()
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def own_log_files() -> Iterator[None]:
    """Close the log files that commands of a test leave open, whose directories are removed after it."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and handler not in before:
            root.removeHandler(handler)
            handler.close()


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """A command that runs in the process of the tests sets variables for its child processes, not for later tests."""
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test works in an empty directory of its own, with a cache of its own."""
    monkeypatch.setenv("HYDRATUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    workdir = tmp_path / "work"
    workdir.mkdir()
    monkeypatch.chdir(workdir)
    monkeypatch.setattr("hydratune.utils.env_variables.resolved_values", {})
    monkeypatch.setattr(netrc.netrc, "authenticators", netrc.netrc.authenticators)  # which a command replaces
    hub.is_reachable.cache_clear()
    project_settings.cache_clear()
    for variable in (
        allowlist.VARIABLE,
        servers.VARIABLE,
        image_formats.FOLDERS,
    ):  # which a command sets, for its processes
        monkeypatch.setenv(variable, "")
    return workdir


@pytest.fixture(autouse=True)
def signal_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command that runs in the process of the tests leaves the handlers of signals to the next test as they were.

    Its watchdog would outlive it, and end the process ten seconds after a later test sends a signal to it.
    """
    monkeypatch.setattr(watchdog, "start", lambda *_, **__: None)
    before = {number: signal.getsignal(number) for number in signals.NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint directory: BERT with one layer of 16 units, 32 positions and a word-level tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, set_seed

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate([*special, *WORDS])}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    config = BertConfig(
        vocab_size=len(special) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    set_seed(0)
    folder = tmp_path_factory.mktemp("tiny")
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def looked_at_every(steps: int) -> list[str]:
    """Overrides that evaluate and save after so many steps; an epoch of tiny data is one step."""
    kinds = [f"trainer.args.{kind}_strategy=steps" for kind in ("eval", "save")]
    return [*kinds, *(f"trainer.args.{kind}_steps={steps}" for kind in ("eval", "save"))]


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    """A jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def tiny(tiny_model: Path) -> list[str]:
    """Overrides of two steps with the tiny network, in full precision."""
    model = ["model=pretrained", f"model.pretrained_model_name_or_path={tiny_model}"]
    return [*model, "hardware=cpu", "hardware.threads=1", "trainer.args.max_steps=2"]


@pytest.fixture
def tiny_gpt() -> list[str]:
    """Overrides of two steps with a GPT-2 of one layer of 16 units that reads bytes."""
    sizes = {"n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64}
    config = [f"model.config.{name}={value}" for name, value in sizes.items()]
    return ["model=gpt_tiny", *config, "hardware=cpu", "hardware.threads=1", "trainer.args.max_steps=2"]


def predictions(result: Any) -> list[dict[str, Any]]:
    """The rows of a run's predictions.jsonl."""
    return [json.loads(line) for line in (result.directory / "predictions.jsonl").read_text().splitlines()]


def toy_rows() -> dict[str, list[dict[str, object]]]:
    """Three small splits: does a text say good (pos) or bad (neg)?"""
    rows: list[dict[str, object]] = [
        {"text": f"the {thing} was {degree} {word}", "label": "pos" if word in ("good", "great") else "neg"}
        for thing in ("film", "book")
        for degree in ("very", "not", "is", "a")
        for word in ("good", "bad", "great", "awful")
    ]
    return {"train": rows, "validation": rows[:24], "test": rows[8:24]}


@pytest.fixture
def toy_files(own_directory: Path) -> list[str]:
    """Overrides that name files of the toy rows."""
    parts = toy_rows()
    for split, part in parts.items():
        write_rows(own_directory / f"{split}.jsonl", part)
    return ["dataset=local", *(f"dataset.files.{split}={split}.jsonl" for split in parts)]


@pytest.fixture
def toy(toy_files: list[str], tiny_model: Path) -> list[str]:
    """Overrides of a run on the toy files with the tiny network, in full precision."""
    model = ["model=pretrained", f"model.pretrained_model_name_or_path={tiny_model}"]
    steps = ["trainer.args.learning_rate=0.02", "trainer.args.num_train_epochs=2"]
    return [*toy_files, *model, "hardware=cpu", "hardware.threads=1", *steps]


@pytest.fixture
def compose() -> Callable[..., DictConfig]:
    """Composes overrides as the command line does; the result has its `hydra` node."""

    def compose_overrides(*overrides: str, config_dir: Path | None = None) -> DictConfig:
        request = Request(tuple(overrides), config_dir=config_dir)
        with composition.composer(request):
            return composition.compose_config(request, composition.force_add(request))

    return compose_overrides


@pytest.fixture
def drawn_plots() -> None:
    """Have runs of `train` draw their plots, which other tests do without."""


@pytest.fixture
def train(
    compose: Callable[..., DictConfig],
    own_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Callable[..., Any]:
    """Checks and runs overrides in this process and returns the RunResult; untracked without `store`."""
    if "drawn_plots" not in request.fixturenames:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", blank_plot)
    # A third of a tiny run's time: a collection of the garbage of all tests, which accelerate asks for.
    monkeypatch.setattr("accelerate.utils.memory.clear_device_cache", lambda *_, **__: None)

    def train_overrides(*overrides: str, directory: str = "run") -> Any:
        from hydratune.training.run import run

        tracked = Path("outputs/mlflow.db").exists() or any(o.startswith("tracking") for o in overrides)
        typed = [*overrides, *([] if tracked else ["tracking=none"])]
        servers.confirm_typed(typed)
        cfg = compose(*typed)
        check_config(cfg)
        folder = own_directory / directory
        folder.mkdir(exist_ok=True)
        return run(composition.without_hydra(cfg), Job(folder, typed, dict(cfg.hydra.runtime.choices)))

    return train_overrides


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sqlite file with MLflow's schema, which takes seconds to make."""
    from hydratune.tracking.client import connect

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(empty_store: Path, own_directory: Path) -> str:
    """The address of an MLflow store of this test alone, where runs are recorded by default."""
    path = own_directory / "outputs" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_store, path)
    return f"sqlite:///{path}"


@pytest.fixture
def handled_signals() -> Iterator[None]:
    """Our handlers of signals in this process, and the earlier handlers after the test."""
    before = {number: signal.getsignal(number) for number in signals.NUMBERS}
    signals.reset()
    signals.install(SAVED)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signals.reset()


@pytest.fixture
def foreign_run(own_directory: Path) -> Callable[[str], str]:
    """Makes the directory of a run of someone else whose journal and pointer name the store at an address."""

    def make(uri: str) -> str:
        folder = own_directory / "run"
        folder.mkdir(exist_ok=True)
        values = {"key": "k", "experiment": "e", "name": "n", "tags": {}, "began": 0, "uri": uri}
        (folder / JOURNAL).write_text(json.dumps({"kind": "run", **values}) + "\n")
        (folder / POINTER).write_text(json.dumps({"uri": uri, "experiment_id": "1", "run_id": "r"}))
        return str(folder)

    return make


@pytest.fixture
def sweep(toy: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a sweep on the toy rows in this process; returns its exit code and its trials."""

    def run(*overrides: str) -> Any:
        from hydratune.cli.main import dispatch

        root = logging.getLogger()
        handlers, level = list(root.handlers), root.level
        monkeypatch.setattr("sys.argv", ["hydratune"])
        monkeypatch.setattr("hydratune.sweep.worker.REPORT_DELAY", 0)
        monkeypatch.setattr(
            "hydratune.sweep.report.page.write", lambda *_: []
        )  # plots take seconds and have their own tests
        typed = ["hydra.sweep.dir=s", *(o for o in overrides if o.startswith("hydra.sweep.dir"))]
        tracked = Path("outputs/mlflow.db").exists() or any(o.startswith("tracking") for o in overrides)
        try:
            code = dispatch(["-m", *toy, *([] if tracked else ["tracking=none"]), "hydra.sweep.dir=s", *overrides])
        finally:
            root.handlers[:], root.level = handlers, level
            for thread in threading.enumerate():
                if thread.name.startswith("remove "):  # what the end of the process would wait for
                    thread.join()
        return code, study(typed[-1].partition("=")[2]).trials

    return run


def study(directory: str = "s") -> Any:
    """The study of a sweep's directory."""
    import optuna

    name = json.loads((Path(directory) / "sweep.json").read_text())["name"]
    return optuna.load_study(study_name=name, storage=f"sqlite:///{Path(directory).absolute()}/study.db")
