"""A worker that keeps data and networks trains as a run alone does."""

import gc
import hashlib
import shutil
import subprocess
import sys
import weakref

import pytest
from transformers import BertConfig, BertForSequenceClassification

from hydratune.sweep import worker
from hydratune.training import setup
from hydratune.training.warm_cache import WarmCache, key_of

LR = "trainer.args.learning_rate"


def weights(checkpoints):
    """Checkpoint -> a hash of its weights."""
    files = sorted(checkpoints.glob("checkpoint-*/*.safetensors"))
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def left(monkeypatch):
    """Trial's directory -> hashes of its weights, taken before a sweep removes them."""
    found = {}

    def looked_at(folder, _=0):
        found[folder.parent.name] = weights(folder)
        shutil.rmtree(folder)

    monkeypatch.setattr(worker, "remove_later", looked_at)
    return found


def test_the_same_weights_as_alone(sweep, left, train, toy):
    """Bit for bit, whatever came before in the same process: another seed, another precision."""
    toy += ["trainer.args.per_device_train_batch_size=8", "trainer.args.save_total_limit=9"]
    _, done = sweep("seed=1,2", "hardware.precision=bf16,fp32")
    assert len(done) == 4
    for number in (1, 2, 3):
        alone = train(*toy, *(f"{name}={value}" for name, value in done[number].params.items()), directory=f"r{number}")
        assert left[str(number)] == weights(alone.directory / "checkpoints")
    assert [[*one] for one in left.values()] == [["checkpoint-4", "checkpoint-8"]] * 4
    assert len({tuple(one.values()) for one in left.values()}) == 4


def test_a_second_run_loads_nothing(sweep, monkeypatch):
    """Data are read and networks loaded once for what is the same."""
    loads = []
    load_model, prepare_data = setup.load_model, setup.prepare_data
    monkeypatch.setattr(setup, "load_model", lambda *given: loads.append("network") or load_model(*given))
    monkeypatch.setattr(setup, "prepare_data", lambda *given: loads.append("data") or prepare_data(*given))
    sweep(f"{LR}=0.01,0.02,0.03", "seed=1,2", "trainer.args.max_steps=1")
    assert sorted(loads) == ["data", "network", "network"]  # a head is drawn by the seed


def test_the_kept_network_never_trains():
    """Each caller gets a copy."""
    kept = WarmCache(2)
    first = kept.network("a", lambda: [0])
    first.append(1)
    assert kept.network("a", lambda: pytest.fail("made again")) == [0]


def test_random_numbers_go_on_as_after_loading():
    """A copy leaves the generators where loading had left them."""
    import torch

    def make():
        torch.manual_seed(1)
        return torch.rand(3)

    kept = WarmCache(1)
    drawn = [(kept.network("a", make), torch.rand(2)) for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))


def test_as_many_as_asked_for():
    """The ones that were used last stay."""
    kept = WarmCache(2)
    for key in ("a", "b", "a", "c"):
        kept.data(key, lambda key=key: key)
    assert kept.data("a", lambda: "again") == "a"
    assert kept.data("b", lambda: "again") == "again"


def test_without_keeping():
    """A run of its own keeps nothing."""
    kept = WarmCache()
    assert [kept.data("a", lambda n=n: n) for n in range(2)] == [0, 1]


def test_keys_depend_on_values(compose):
    """What differs in a value differs in its key."""
    one, same, other = (compose(f"model.dropout={p}").model for p in (0.1, 0.1, 0.2))
    assert key_of(one) == key_of(same) != key_of(other)


IMPORTS_OF_OTHERS = """
import sys, threading
found = []
class Finder:
    def find_spec(self, name, *_):
        if threading.current_thread() is not threading.main_thread():
            found.append(name)
sys.meta_path.insert(0, Finder())
sys.argv[0] = "hydratune"
from hydratune.cli.main import main
try:
    main()
except SystemExit as end:
    print(end.code, found)
"""


@pytest.mark.slow
def test_trials_import_alone(toy):
    """No other thread imports while a trial does: where two meet in a circle of modules, Python fails one of them."""
    typed = ["-m", *toy, f"{LR}=0.01,0.02", "trainer.args.num_train_epochs=20"]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_OF_OTHERS, *typed], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["0 []"], done.stderr


@pytest.fixture
def thawed():
    """Nothing is out of garbage collection at the beginning."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures("thawed")
def test_modules_are_no_garbage(sweep):
    """The two collections of each run look at little: a worker takes what lives as long as it does out of them."""
    before = len(gc.get_objects())
    sweep(f"{LR}=0.01,0.02", "trainer.args.max_steps=1")
    assert len(gc.get_objects()) < before / 2


def test_a_failed_trial_leaves_no_network(sweep, monkeypatch):
    """Also the first one's is gone, behind which a worker takes what is alive out of garbage collection."""
    networks = []

    def fails(_, **runtime):
        networks.append(weakref.ref(runtime["model"]))
        raise ValueError("no")

    monkeypatch.setattr(setup, "make_trainer", fails)
    sweep(f"{LR}=0.01,0.02", "sweep.max_retries=0")
    gc.collect()
    assert [network() for network in networks] == [None, None]


@pytest.mark.usefixtures("thawed")
def test_an_old_network_needs_no_collection():
    """A network that a worker no longer keeps is gone at once, also where it is out of garbage collection."""
    kept = WarmCache(1)
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    kept.network("a", lambda: BertForSequenceClassification(config))
    network = weakref.ref(kept._networks["a"][0])
    gc.freeze()
    kept.network("b", lambda: [0])
    assert network() is None
