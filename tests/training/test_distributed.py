"""A run of several processes is one run: the same training, one record, one end."""

import json
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
from omegaconf import OmegaConf

from conftest import study, write_rows
from hydratune.cli.main import dispatch
from hydratune.config import composition, hydra_guard
from hydratune.tracking.client import connect
from hydratune.training import launch
from hydratune.training.hardware.distributed import Distributed, Launch
from hydratune.utils.errors import SAVED, TERMINATED, ConfigError
from processes import LONG, hydratune, start

TWO = [
    "hardware=ddp",
    "hardware.nproc_per_node=2",
    "hardware.device=cpu",
    "hardware.precision=fp32",
    "hardware.threads=1",
]
ENDLESS = ["trainer.args.num_train_epochs=100000", "hydra.run.dir=run"]
LAST = "trainer.args.save_total_limit=3"  # so that the last checkpoint stays, beside the best
FAILING = """
import os
from transformers import TrainerCallback

class Fail(TrainerCallback):
    def on_step_end(self, args, state, control, **_):
        if os.environ["RANK"] == "1":
            raise ValueError("the second one cannot go on")
"""


SHARDING = """
import os
if "RANK" in os.environ:
    import accelerate.state as state
    begin = state.AcceleratorState.__init__

    def sharding(self, *args, fsdp_plugin=None, **named):
        begin(self, *args, fsdp_plugin=fsdp_plugin, **named)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = state.DistributedType.FSDP, fsdp_plugin
            state.PartialState._shared_state["distributed_type"] = self.distributed_type

    state.AcceleratorState.__init__ = sharding
"""


@pytest.fixture
def two(toy):
    """Overrides of the toy run in two processes."""
    return [one for one in toy if not one.startswith("hardware")] + TWO


def started(arguments, directory):
    """The command, and its two processes once they have trained for an epoch."""
    process = start(*arguments)
    while not list(Path(directory).glob("checkpoints/checkpoint-*/trainer_state.json")):
        assert process.poll() is None, process.said()
        time.sleep(0.05)
    ranks = [one for one in psutil.Process(process.pid).children() if "hydratune.cli._rank" in one.cmdline()]
    return process, sorted(ranks, key=lambda one: int(one.environ()["RANK"]))


def status(store):
    """Of the one run that MLflow has."""
    client = connect(store)
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    return run.info.status, run


def history(directory):
    """What Trainer logged in all steps."""
    state = Path(directory) / "checkpoints" / "checkpoint-8" / "trainer_state.json"
    return json.loads(state.read_text())["log_history"]


@pytest.mark.slow
def test_the_same_as_one_process(toy, two, store, own_directory):
    """The same losses within 1e-4 and the same metrics, of splits that two processes cannot divide; one record."""
    for split in ("validation", "test"):  # 23 and 15 rows in batches of 5
        rows = [json.loads(line) for line in (own_directory / f"{split}.jsonl").read_text().splitlines()]
        write_rows(own_directory / f"{split}.jsonl", rows[:-1])
    more = [
        "model.dropout=0",
        "trainer.args.per_device_train_batch_size=8",
        "trainer.args.per_device_eval_batch_size=5",
    ]
    more += ["trainer.args.train_sampling_strategy=group_by_length", "trainer.args.logging_steps=1"]
    more += [LAST]
    assert hydratune(*toy, *more, "hydra.run.dir=one", "tracking=none").returncode == 0
    done = hydratune(*two, *more, "hydra.run.dir=two")
    assert done.returncode == 0, done.stderr
    one, two_ = ([e for e in history(d) if "loss" in e or "eval_loss" in e] for d in ("one", "two"))
    assert len(one) == len(two_) == 10
    for first, second in zip(one, two_, strict=True):
        for name in {"loss", "eval_loss"} & set(first):
            assert second[name] == pytest.approx(first[name], abs=1e-4)
    scores = [json.loads((own_directory / d / "metrics.json").read_text()) for d in ("one", "two")]
    assert {k: v for k, v in scores[0].items() if k.endswith(("accuracy", "_f1"))}.items() <= scores[1].items()
    assert scores[1]["test_loss"] == pytest.approx(scores[0]["test_loss"], abs=1e-4)
    assert len((own_directory / "two/predictions.jsonl").read_text().splitlines()) == 15
    assert status(store)[0] == "FINISHED"
    assert done.stderr.count("hardware: CPU") == 1
    assert done.stderr.count("step 1/8,") == 1  # progress lines
    assert "files    two" in done.stdout


@pytest.mark.slow
def test_weights_are_those_of_accumulated_micro_batches(toy, two, own_directory):
    """Two processes add gradients in the order of one that accumulates two halves of a batch: the bits are the same.

    So are calibration and threshold, which both are fitted on all validation rows.
    """
    same = ["model.dropout=0", "tracking=none", "hardware.precision=fp32", "trainer.args.per_device_eval_batch_size=5"]
    same += ["task.calibration=temperature", "task.tune_threshold=f1"]
    halves = ["trainer.args.per_device_train_batch_size=4", "trainer.args.gradient_accumulation_steps=2"]
    assert hydratune(*toy, *same, *halves, "hydra.run.dir=one").returncode == 0
    done = hydratune(*two, *same, "trainer.args.per_device_train_batch_size=8", "hydra.run.dir=two")
    assert done.returncode == 0, done.stderr
    files = [own_directory / name / "model/model.safetensors" for name in ("one", "two")]
    assert files[0].read_bytes() == files[1].read_bytes()
    first, second = (
        json.loads((own_directory / name / "model/calibration.json").read_text()) for name in ("one", "two")
    )
    assert second["temperature"] == pytest.approx(first["temperature"], rel=1e-4)
    for split in ("validation", "test"):
        assert second[split] == pytest.approx(first[split], abs=1e-5)
    metrics = [json.loads((own_directory / name / "metrics.json").read_text()) for name in ("one", "two")]
    for name in ("eval_threshold", "test_threshold"):
        assert metrics[1][name] == pytest.approx(metrics[0][name], abs=1e-5)


@pytest.mark.slow
def test_losses_over_tokens(tiny_gpt, own_directory):
    """A network that divides by what Trainer counts has the same losses too, also behind an evaluation."""
    words = ["the", "film", "was", "very", "good", "and", "the", "book", "was", "not"]
    lines = [" ".join(words[i % 7 : i % 7 + 3] * (1 + i % 4)) for i in range(100)]
    (own_directory / "a.txt").write_text("\n".join(lines))
    files = [f"dataset.files.{split}=a.txt" for split in ("train", "validation")]
    task = ["task=causal_lm", "task.document_separator=newline", "dataset=local", *files, "tracking=none", LAST]
    sizes = ["trainer.args.per_device_train_batch_size=4", "trainer.args.per_device_eval_batch_size=3"]
    every = [f"trainer.args.{what}=2" for what in ("eval_steps", "save_steps")]
    steps = ["trainer.args.eval_strategy=steps", "trainer.args.save_strategy=steps", "trainer.args.logging_steps=1"]
    plain = [f"+model.config.{kind}_pdrop=0" for kind in ("resid", "embd", "attn")]
    more = [*task, *sizes, *every, *steps, *plain, "trainer.args.max_steps=8"]
    alone = [one for one in tiny_gpt if not one.startswith(("hardware", "trainer"))]
    for name, hardware in (("one", ["hardware=cpu", "hardware.threads=1"]), ("two", TWO)):
        done = hydratune(*alone, *hardware, *more, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    one, two = ([e.get("loss", e.get("eval_loss")) for e in history(d)] for d in ("one", "two"))
    assert len(one) == 12
    assert one == pytest.approx(two, abs=1e-4)


@pytest.mark.slow
def test_a_dead_process_ends_all_and_the_run_goes_on(two, store):
    """After kill -9 of the second the first ends too and MLflow says FAILED; `resume` goes on as the same run."""
    process, ranks = started([*two, *ENDLESS], "run")
    ranks[1].kill()
    _, said = process.communicate()
    assert process.returncode == 1
    assert "rank 1 was ended by signal 9" in said
    assert not any(one.is_running() for one in ranks)
    failed, run = status(store)
    assert (failed, run.data.tags["error"]) == ("FAILED", "RankFailedError: rank 1 was ended by signal 9")
    last = max(int(path.name.rpartition("-")[2]) for path in Path("run/checkpoints").glob("checkpoint-*"))
    done = hydratune("resume", "run", f"trainer.args.max_steps={last + 2}")
    assert done.returncode == 0, done.stderr
    assert (status(store)[0], status(store)[1].info.run_id) == ("FINISHED", run.info.run_id)
    assert json.loads(Path("run/metrics.json").read_text())["train_runtime"] > 0


def test_rank_that_its_watchdog_ended_is_an_interruption(two, monkeypatch):
    """It was asked to end while it waited in a library, and had nothing to save."""
    monkeypatch.setattr("hydratune.training.hardware.agent.run_processes", lambda *_: {1: TERMINATED})
    monkeypatch.setattr("sys.argv", ["hydratune"])
    with pytest.raises(SystemExit) as end:
        dispatch([*two, "tracking=none", "hydra.run.dir=run"])
    assert end.value.code == SAVED


@pytest.mark.slow
def test_the_traceback_of_a_process(two, store, own_directory):
    """What the second process raised is shown once, is in the log and in MLflow, and the command ends with 1."""
    (own_directory / "failing.py").write_text(FAILING)
    own = {"PYTHONPATH": str(own_directory), "HYDRATUNE_ALLOW": "failing"}
    done = hydratune(*two, *ENDLESS, "+trainer.callbacks.fail._target_=failing.Fail", **own)
    assert done.returncode == 1
    assert done.stderr.count('raise ValueError("the second one cannot go on")') == 1
    assert "the second one cannot go on" in Path("run/hydratune.log").read_text()
    failed, run = status(store)
    assert failed == "FAILED"
    assert run.data.tags["error"] == "RankFailedError: rank 1: ValueError: the second one cannot go on"


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interruption(two, store, sent):
    """Ctrl-C and SIGTERM to the command end all processes after a checkpoint, as one; MLflow says KILLED."""
    process, ranks = started([*two, *ENDLESS], "run")
    process.send_signal(sent)
    _, said = process.communicate()
    assert process.returncode == SAVED
    assert "saved at step" in Path("run/hydratune.log").read_text()
    assert "Traceback" not in said
    assert not any(one.is_running() for one in ranks)
    assert status(store)[0] == "KILLED"


@pytest.mark.slow
def test_processes_end_with_the_one_that_started_them(two):
    """After kill -9 of the command none of its processes is left."""
    process, ranks = started([*two, *ENDLESS, "tracking=none"], "run")
    process.kill()
    process.communicate()
    assert psutil.wait_procs(ranks, timeout=LONG)[1] == []


@pytest.mark.slow
def test_a_error_in_the_data(two, own_directory):
    """Rows that cannot be trained on are told as by one process: exit code 2, no traceback, no directory."""
    write_rows(own_directory / "train.jsonl", [{"text": "", "label": "pos"}])
    done = hydratune(*two, "hydra.run.dir=run", "tracking=none")
    assert done.returncode == 2
    assert "train.jsonl:1: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (own_directory / "run").exists()


@pytest.mark.slow
def test_a_sweep(two, store, own_directory):
    """With -m each trial trains in its own processes, and one that is pruned ends in all of them."""
    tried = ["trainer.args.learning_rate=0,5", "objective=eval_loss", "trainer.args.num_train_epochs=6"]
    pruner = ["sweep.pruner=asha", "sweep.pruner_args={reduction_factor: 2}"]
    done = hydratune("-m", *two, *tried, *pruner, "hydra.sweep.dir=s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [one.state.name for one in study().trials] == ["COMPLETE", "PRUNED"]
    ends = [json.loads(path.read_text()) for path in sorted(own_directory.glob("s/*/ranks/*.json"))]
    assert ["pruned" in end for end in ends] == [False, False, True, True]
    pointer = json.loads(Path("s/1/mlflow.json").read_text())
    assert connect(store).get_run(pointer["run_id"]).data.tags["hydratune.state"] == "PRUNED"


@pytest.mark.slow
def test_weights_in_parts(two, own_directory):
    """FSDP ends with the weights of DDP, whole and in one file; accelerate, which has it on GPUs alone, is made to."""
    (own_directory / "sitecustomize.py").write_text(SHARDING)
    parts = [one.replace("=ddp", "=fsdp") for one in two]
    layers = "+hardware.fsdp_config.transformer_layer_cls_to_wrap=[BertLayer]"
    wanted = {"ddp": (two, {}), "fsdp": ([*parts, layers], {"PYTHONPATH": str(own_directory)})}
    for name, (overrides, environment) in wanted.items():
        done = hydratune(*overrides, f"hydra.run.dir={name}", "tracking=none", **environment)
        assert done.returncode == 0, done.stderr
    saved = [(own_directory / name / "model" / "model.safetensors").read_bytes() for name in wanted]
    assert saved[0] == saved[1]
    assert list(own_directory.glob("fsdp/checkpoints/*/pytorch_model_fsdp.bin"))


@pytest.mark.slow
def test_no_weights_in_parts_on_a_cpu(two):
    """Accelerate would train with whole weights and not say so."""
    done = hydratune(*[one.replace("=ddp", "=fsdp") for one in two], "tracking=none", "hydra.run.dir=run")
    assert done.returncode == 2
    assert "FSDP needs GPUs" in done.stderr


@pytest.mark.slow
def test_two_machines(two, store):
    """Two commands that know each other's address train one run in one directory; the second one leaves no record."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = [one for one in two if "nproc_per_node" not in one]
    machines = [
        "hardware.nproc_per_node=1",
        "hardware.launch.nnodes=2",
        f"hardware.launch.rdzv_endpoint=127.0.0.1:{port}",
    ]
    command = [*alone, *machines, "hydra.run.dir=run"]
    both = [start(*command, f"hardware.launch.node_rank={n}") for n in (0, 1)]
    said = ["".join(process.communicate()) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert ["hardware: CPU" in one for one in said] == [True, False]
    assert status(store)[0] == "FINISHED"
    assert {path.name for path in Path("run/ranks").iterdir()} >= {"0.json", "1.json", "job.yaml", "machine-1"}
    again = hydratune(*command, "hardware.launch.node_rank=1")
    assert (again.returncode, again.stdout) == (0, "run: finished, nothing to do\n")


@pytest.mark.parametrize(
    ("batch", "steps", "world", "shares"),
    [(32, 1, 2, (16, 1)), (32, 3, 4, (8, 3)), (3, 2, 2, (3, 1)), (6, 2, 4, (3, 1)), (5, 4, 2, (5, 2))],
)
def test_a_batch_is_shared(batch, steps, world, shares):
    """Each process has its part of a step's rows, and never more at once than one process would have."""
    given = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps}
    found = tuple(Distributed().shares(given, world).values())
    assert found == shares
    assert found[0] * found[1] * world == batch * steps
    assert Distributed(keep_global_batch_size=False).shares(given, world) == {}


def test_a_batch_that_cannot_be_shared():
    """The error names the key, and numbers that would do."""
    with pytest.raises(ConfigError) as caught:
        Distributed().shares({"per_device_train_batch_size": 9}, 2)
    (problem,) = caught.value.problems
    assert problem.key == "trainer.args.per_device_train_batch_size"
    assert "9 x 1" in problem.message
    assert problem.hints[0] == "set trainer.args.per_device_train_batch_size=10"


@pytest.mark.parametrize(
    ("launch", "key"),
    [
        ({"nnodes": 0}, "launch.nnodes"),
        ({"nnodes": 2, "rdzv_endpoint": "a:1", "node_rank": 2}, "launch.node_rank"),
        ({"node_rank": 1}, "launch.node_rank"),
        ({"nnodes": 2}, "launch.rdzv_endpoint"),
        ({"nnodes": 2, "rdzv_endpoint": "a:b"}, "launch.rdzv_endpoint"),
        ({"join_timeout": 0}, "launch.join_timeout"),
        ({"max_restarts": -1}, "launch.max_restarts"),
        ({"monitor_interval": 0}, "launch.monitor_interval"),
    ],
)
def test_machines_that_cannot_meet(launch, key):
    """What is missing to find each other is told before anything starts."""
    assert [problem.key for problem in Distributed(launch=Launch(**launch)).check()] == [key]


def test_alone(monkeypatch):
    """A process that nobody started with others, as `hydratune predict` is, works as one."""
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    assert "ddp_backend" not in Distributed(device="cpu", fsdp_config={}).prepare()


def test_more_processes_than_gpus(monkeypatch):
    """Two processes on one GPU would wait for each other for ever."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert Distributed().local_processes() == 1
    assert Distributed(nproc_per_node=3, device="cpu").local_processes() == 3
    with pytest.raises(ConfigError) as caught:
        Distributed(nproc_per_node=2).local_processes()
    assert [problem.key for problem in caught.value.problems] == ["hardware.nproc_per_node"]
    assert "GPUs, 1, not 2" in str(caught.value)


def test_several_machines_name_their_directory(two):
    """The default directory has the time in its name, which each machine would read from its own clock."""
    machines = ["hardware.launch.nnodes=2", "hardware.launch.rdzv_endpoint=127.0.0.1:1"]
    done = hydratune(*two, *machines)
    assert done.returncode == 2
    assert done.stderr.startswith("error: hydra.run.dir is required ")


def test_what_all_processes_read(compose, own_directory):
    """The config is frozen with its references to secrets; the time in it is the one of the first process."""
    from hydra.core.hydra_config import HydraConfig

    cfg = compose("hardware=ddp", "vars.begun='${now:%Y}'", "tracking.uri='${oc.env:STORE}'")
    HydraConfig.instance().cfg = cfg
    launch.freeze_config(composition.without_hydra(cfg), own_directory / "ranks")
    frozen = OmegaConf.to_container(OmegaConf.load("ranks/job.yaml"), resolve=False)
    assert frozen["vars"]["begun"] == int(time.strftime("%Y"))
    assert frozen["tracking"]["uri"] == "${oc.env:STORE}"
    assert frozen["hydra"]["runtime"]["choices"]["hardware"] == "ddp"


@pytest.mark.parametrize(("mode", "keys"), [("RUN", []), ("MULTIRUN", ["hydra.mode"])])
def test_a_rank_checks_the_frozen_config(compose, mode, keys):
    """Hydra's mode is a text in a file, and no enumeration."""
    node = OmegaConf.to_container(compose().hydra, resolve=False)
    frozen = OmegaConf.create({"hydra": {**node, "mode": mode}})
    assert [problem.key for problem in hydra_guard.check_hydra_node(frozen.hydra)] == keys


@pytest.mark.parametrize(
    ("ends", "exits", "said"),
    [
        ({0: {"at": 2, "error": "b", "traceback": ""}, 1: {"at": 1, "error": "a", "traceback": ""}}, {0: 1}, "1: a"),
        ({0: {"at": 2, "error": "lost the others", "traceback": ""}}, {0: 1, 1: -9}, "1 was ended by signal 9"),
        ({}, {1: 7}, "1 ended with exit code 7"),
    ],
)
def test_who_failed_first(ends, exits, said):
    """One that was killed, else the one that told it first: the others lost it by that."""
    assert str(launch.first_failure(ends, exits)[1]) == f"rank {said}"


@pytest.mark.parametrize("name", ["state_dict_type", "fsdp_state_dict_type"])
def test_checkpoints_in_parts_are_refused(name):
    """They would be read back as pickles."""
    whole, parts = (Distributed(fsdp_config={name: f"{kind}_STATE_DICT"}).check() for kind in ("FULL", "SHARDED"))
    assert list(whole) == []
    assert [problem.key for problem in parts] == [f"fsdp_config.{name}"]
