"""A data set is called after its files, its folder, or its ID, so that unlike data are not compared."""

from pathlib import Path

import pytest

from hydratune.config.dataset_name import data_name

NAMES = {
    "reviews.csv": "reviews",
    "data/reviews.jsonl.gz": "reviews",
    "my reviews (1).csv": "my_reviews_1",
    "reviews_train.csv": "reviews",
    "train-reviews.csv": "reviews",
    "reviews": "reviews",
    "glob:reviews/*.csv": "reviews",
    "glob:data/part-*.csv": "here",
    "imdb/train.csv": "imdb",
    "imdb/data/train-00000-of-00002.parquet": "imdb",
    "imdb/train/1.txt": "imdb",
    "train.csv": "here",
    "/data/train.csv": "local",
    "v1.2/train.csv": "v1.2",
    "v1.2": "v1.2",
}


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("path", NAMES)
def test_data_name_of_local_files_is_that_of_the_file_or_its_folder(path, several, own_directory, monkeypatch):
    """What is called `train` says nothing; of several files, the first one counts."""
    (own_directory / "here").mkdir()
    monkeypatch.chdir(own_directory / "here")
    assert data_name("local", {"files": {"train": [path, "other.csv"] if several else path}}) == NAMES[path]


def test_data_name_of_other_sources():
    """The ID on the hub with its configuration, the folder, the sources of a mixture, the option of one's own."""
    hub = {"path": "nyu-mll/glue", "name": "mrpc", "splits": {}}
    assert data_name("hub", hub) == "nyu-mll/glue/mrpc"
    assert data_name("hub", hub, "_") == "nyu-mll_glue_mrpc"
    assert data_name("saved", {"path": "some/where/reviews"}) == "reviews"
    local = {"files": {"train": "reviews.csv"}}
    assert data_name("mixture", {"sources": {"a": local, "b": hub | {"name": None}}}) == "reviews+nyu-mll/glue"
    assert data_name("mine", local) == "mine"
    assert [data_name(one, {}) for one in ("local", "hub", "mixture")] == ["local", "hub", "mixture"]


def test_experiment_and_directory_are_called_after_the_data(compose):
    """Until the experiment is named."""
    cfg = compose("dataset=local", "dataset.files.train=reviews.csv", "model=minilm")
    assert (cfg.tracking.experiment_name, cfg.name) == ("reviews", "reviews-minilm")
    assert Path(cfg.hydra.run.dir).parent == Path("outputs/reviews-minilm")
    named = compose("dataset=local", "dataset.files.train=reviews.csv", "tracking.experiment_name=mine")
    assert named.tracking.experiment_name == "mine"
    cfg = compose("dataset=hub", "dataset.path=stanfordnlp/imdb", "model=minilm")
    assert (cfg.tracking.experiment_name, cfg.name) == ("stanfordnlp/imdb", "stanfordnlp_imdb-minilm")
    assert compose("dataset=local").tracking.experiment_name == "local"
    assert compose().tracking.experiment_name == "wordnet_supersense"


def test_trials_over_data_sets_are_in_the_experiment_of_their_sweep(toy_files):
    """A trial's own data would put it in another one."""
    from hydratune.config.composition import Request
    from hydratune.sweep.plan import make_plan
    from hydratune.sweep.trial import compose

    for name in ("a", "b"):
        Path(f"{name}.jsonl").write_bytes(Path("train.jsonl").read_bytes())
    swept = [one for one in toy_files if "files.train" not in one]
    plan, cfg = make_plan(Request((*swept, "dataset.files.train=a.jsonl,b.jsonl")))
    jobs = [compose(plan, plan.job(point, plan.replicates[0]), Path("x"))[0] for point in plan.space.grid()]
    assert {job.tracking.experiment_name for job in jobs} == {cfg.tracking.experiment_name} == {"local"}
    assert [job.dataset.files.train for job in jobs] == ["a.jsonl", "b.jsonl"]
