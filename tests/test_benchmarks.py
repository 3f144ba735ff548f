"""The benchmarks run, and count what they say they count."""

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
PARTS = {"common", "contest", "flops", "scripts", "stopwatch"}  # of the others
# Minutes each, also with --quick, of what the others share with them; for trying by hand.
ALONE = {"experiments", "memory", "quality", "soak", "startup", "sweep", "throughput", "time_to_quality", "tracking"}


@pytest.fixture
def benchmarks(monkeypatch):
    """The scripts can be imported."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_every_benchmark_is_tried():
    """A script in benchmarks/ is run below, is a part of others, or is known to take minutes."""
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == {*QUICK, *PARTS, *ALONE}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_benchmark_prints_its_table_and_writes_its_results(name, tmp_path):
    """With --quick, every script ends well, shows a table and leaves a json file that says where it was measured."""
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", "--out", str(tmp_path), *QUICK[name]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "┃" in done.stdout
    results = json.loads((tmp_path / f"{name}.json").read_text())
    assert results.pop("machine")["threads"] >= 1
    assert results


@pytest.mark.usefixtures("benchmarks")
def test_the_formula_counts_what_torch_counts():
    """FLOP of rows of one length, forward and backward, are those of torch's own counter."""
    import torch
    from flops import Encoder
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24}
    config = BertConfig(vocab_size=9, num_attention_heads=2, attn_implementation="eager", **sizes)
    network = BertForSequenceClassification(config)
    ids = torch.ones((3, 7), dtype=torch.int64)
    with FlopCounterMode(display=False) as counter:
        network(ids, labels=torch.tensor([0, 1, 0])).loss.backward()
    assert Encoder(2, 16, 24, labels=2).training([7, 7, 7]) == counter.get_total_flops()


@pytest.mark.usefixtures("benchmarks")
def test_a_gpu_table_has_shares_of_the_peak():
    """A training that does half of what the card multiplies has a share of a half, and padding adds to it."""
    import gpu
    from common import Usage
    from contest import Timed
    from flops import Encoder

    encoder = Encoder(2, 16, 24)
    work = encoder.training([5, 7])
    epoch = {"seconds": 2.0, "batches": [[2, 7]], "lengths": [5, 7]}
    timed = Timed(Usage(0, 9), {"epochs": [{}, epoch]}, {})
    values = gpu.results({gpu.BASE: [timed]}, [{"flops": {"bfloat16": work, "float32": work / 3}}], encoder)
    assert values[gpu.BASE]["samples_per_second"] == 1
    assert values[gpu.BASE]["share_of_peak_real"] == 0.5
    assert values[gpu.BASE]["share_of_peak_padded"] > 0.5
    assert gpu.table(values, "").row_count == 1


@pytest.mark.usefixtures("benchmarks")
def test_growth_is_the_power():
    """What grows with the square of a size grows with 2."""
    from scale import growth

    assert growth([10, 100, 1000], [3e2, 3e4, 3e6]) == pytest.approx(2)


@pytest.mark.usefixtures("benchmarks")
def test_a_training_is_not_repeated(monkeypatch, tmp_path):
    """A seed that has scores is left out where quality is measured again, and not where the config is another."""
    kinds = ["course", "hydratune"]
    import quality
    from common import Usage
    from contest import SPLITS, Material, Timed

    for split in SPLITS:
        (tmp_path / f"{split}.jsonl").write_text("{}\n")
    trained = []

    def train(kind, _, seed):
        trained.append((kind, seed))
        return Timed(Usage(0, 1), {}, {"test_accuracy": 0.5, "test_f1": 0.5})

    monkeypatch.setattr(quality, "train", train)
    first, changed = (Material(tmp_path, tmp_path, {}, config) for config in ("a", "b"))
    for material, seeds in ((first, [1]), (first, [1, 2]), (changed, [1])):
        quality.measure(material, kinds, seeds, tmp_path / "kept")
    assert trained == [("course", 1), ("hydratune", 1), ("course", 2), ("hydratune", 2), ("hydratune", 1)]


@pytest.mark.usefixtures("benchmarks")
def test_the_time_to_a_score_ends_with_the_first_evaluation_that_reaches_it():
    """The target is the mean final score of the script, whose time is that of its last evaluation."""
    import time_to_quality
    from quality import COURSE

    def one(*evaluations, test):
        return {"evaluations": evaluations, "test_accuracy": test}

    script = {1: one((50, 0.9), (100, 0.7), test=0.5), 2: one((50, 0.2), (200, 0.9), test=0.7)}
    fast = {1: one((10, 0.7), (20, 0.8), (30, 0.9), test=0.6), 2: one((10, 0.1), (20, 0.79), test=0.7)}
    found = time_to_quality.results({COURSE: script, "fast": fast})
    assert found["target"] == pytest.approx(0.8)
    assert found["contestants"][COURSE]["seconds"] == {1: 100, 2: 200}
    assert found["contestants"]["fast"]["seconds"] == {1: 20, 2: None}
    assert found["contestants"]["fast"]["share"] == pytest.approx(0.2)
    assert found["contestants"]["fast"]["difference"][0] == pytest.approx(0.05)
    assert time_to_quality.table(found, "").row_count == 2


@pytest.mark.usefixtures("benchmarks")
def test_nothing_goes_on_after_a_benchmark_was_ended(monkeypatch, tmp_path):
    """A benchmark that is interrupted ends the training that it waits for."""
    import common

    real, started = subprocess.Popen, []

    class Interrupted(real):
        def wait(self, *_, **__):
            started.append(self)
            raise KeyboardInterrupt

    monkeypatch.setattr(common.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        common.run([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path)
    assert real.wait(started[0], timeout=60) == -9
