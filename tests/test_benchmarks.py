"""The benchmarks run, and their computations are correct."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
QUICK = {
    "evaluation_memory": [],
    "gpu": [],
    "padding": [],
    "scale": [],
}
SHARED = {"common", "flops", "scripts", "stopwatch", "workload"}  # imported or run by the others
# These take minutes with --quick. Run them manually.
ALONE = {"experiments", "memory", "quality", "soak", "startup", "sweep", "throughput", "time_to_quality", "tracking"}


@pytest.fixture
def benchmarks(monkeypatch):
    """The scripts can be imported."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_every_benchmark_is_listed():
    """A script in benchmarks/ is run below, is shared by others, or takes minutes."""
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == {*QUICK, *SHARED, *ALONE}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_prints_its_table_and_writes_its_results(name, tmp_path):
    """With --quick, every script ends well, shows a table and writes a JSON file with the machine."""
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--out", str(tmp_path), *QUICK[name]]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    assert "┃" in completed.stdout
    results = json.loads((tmp_path / f"{name}.json").read_text())
    assert results.pop("machine")["threads"] >= 1
    assert results


@pytest.mark.usefixtures("benchmarks")
def test_training_flops_equal_those_of_torch():
    """FLOP of rows of one length, forward and backward, are those of torch's own counter."""
    import torch
    from flops import Encoder
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24}
    config = BertConfig(vocab_size=9, num_attention_heads=2, attn_implementation="eager", **sizes)
    model = BertForSequenceClassification(config)
    ids = torch.ones((3, 7), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        model(ids, labels=torch.tensor([0, 1, 0])).loss.backward()
    assert Encoder(2, 16, 24, labels=2).training_flops([7, 7, 7]) == counter.get_total_flops()


@pytest.mark.usefixtures("benchmarks")
def test_gpu_table_has_shares_of_the_peak():
    """A training that does half of what the card multiplies has a share of a half, and padding adds to it."""
    import gpu
    from common import Usage
    from flops import Encoder
    from workload import TimedRun

    encoder = Encoder(2, 16, 24)
    work = encoder.training_flops([5, 7])
    epoch = {"seconds": 2.0, "batches": [[2, 7]], "lengths": [5, 7]}
    run = TimedRun(Usage(0, 9), {"epochs": [{}, epoch]}, {})
    values = gpu.summarize({gpu.BASELINE: [run]}, [{"flops": {"bfloat16": work, "float32": work / 3}}], encoder)
    assert values[gpu.BASELINE]["samples_per_second"] == 1
    assert values[gpu.BASELINE]["share_of_peak_real"] == 0.5
    assert values[gpu.BASELINE]["share_of_peak_padded"] > 0.5
    assert gpu.make_table(values, "").row_count == 1


@pytest.mark.usefixtures("benchmarks")
def test_scaling_exponent_is_the_power():
    """A value that grows with the square of the size has an exponent of 2."""
    from scale import scaling_exponent

    assert scaling_exponent([10, 100, 1000], [3e2, 3e4, 3e6]) == pytest.approx(2)


@pytest.mark.usefixtures("benchmarks")
def test_a_training_is_not_repeated(monkeypatch, tmp_path):
    """A training with the same seed and config is not repeated; one with another config is."""
    systems = ["course", "hydratune"]
    import quality
    from common import Usage
    from workload import SPLITS, TimedRun, Workload

    for split in SPLITS:
        (tmp_path / f"{split}.jsonl").write_text("{}\n")
    trained = []

    def train(system, _, seed):
        trained.append((system, seed))
        return TimedRun(Usage(0, 1), {}, {"test_accuracy": 0.5, "test_f1": 0.5})

    monkeypatch.setattr(quality, "train", train)
    first, changed = (Workload(tmp_path, tmp_path, {}, config) for config in ("a", "b"))
    for workload, seeds in ((first, [1]), (first, [1, 2]), (changed, [1])):
        quality.measure(workload, systems, seeds, tmp_path / "results")
    assert trained == [("course", 1), ("hydratune", 1), ("course", 2), ("hydratune", 2), ("hydratune", 1)]


@pytest.mark.usefixtures("benchmarks")
def test_the_time_to_a_score_ends_with_the_first_evaluation_that_reaches_it():
    """The target is the mean final score of the script, whose time is that of its last evaluation."""
    import time_to_quality
    from quality import COURSE

    def metrics(*evaluations, test):
        return {"evaluations": evaluations, "test_accuracy": test}

    script = {1: metrics((50, 0.9), (100, 0.7), test=0.5), 2: metrics((50, 0.2), (200, 0.9), test=0.7)}
    fast = {1: metrics((10, 0.7), (20, 0.8), (30, 0.9), test=0.6), 2: metrics((10, 0.1), (20, 0.79), test=0.7)}
    summary = time_to_quality.summarize({COURSE: script, "fast": fast})
    assert summary["target"] == pytest.approx(0.8)
    assert summary["contestants"][COURSE]["seconds"] == {1: 100, 2: 200}
    assert summary["contestants"]["fast"]["seconds"] == {1: 20, 2: None}
    assert summary["contestants"]["fast"]["share"] == pytest.approx(0.2)
    assert summary["contestants"]["fast"]["difference"][0] == pytest.approx(0.05)
    assert time_to_quality.make_table(summary, "").row_count == 2


@pytest.mark.usefixtures("benchmarks")
def test_run_process_stops_the_process_after_an_interrupt(monkeypatch, tmp_path):
    """An interrupted benchmark stops the training that it waits for."""
    import common

    real, started = subprocess.Popen, []

    class Interrupted(real):
        def wait(self, *_, **__):
            started.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(common.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        common.run_process([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path)
    assert real.wait(started[0], timeout=60) == -9
