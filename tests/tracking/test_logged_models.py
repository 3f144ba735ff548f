"""What MLflow has of a network predicts what the run predicted, and is found by its metrics."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import pytest

from conftest import predictions
from hydratune.tracking.client import connect
from processes import python
from tiny_models import TINY


def logged(store):
    """The models of a store, the latest step first."""
    client = connect(store)
    experiments = [one.experiment_id for one in client.search_experiments()]
    return client.search_logged_models(experiments, order_by=[{"field_name": "creation_time", "ascending": True}])


def run_names(store):
    """The names of the runs as names of models, which have no dots."""
    client = connect(store)
    runs = client.search_runs([one.experiment_id for one in client.search_experiments()])
    return {run.info.run_name.replace(".", "-") for run in runs}


def folder(model):
    """Where the files of a model of a local store are."""
    return Path(model.artifact_location.removeprefix("file://"))


def fresh(code, store, *arguments):
    """What a new process prints as JSON that knows nothing but the store."""
    printed = python(code, *arguments, MLFLOW_TRACKING_URI=store, TQDM_DISABLE="1")
    return json.loads(printed.splitlines()[-1])


LOAD = """
import json, sys
import mlflow
pipeline = mlflow.transformers.load_model(sys.argv[1])
print(json.dumps([one["label"] for one in pipeline(json.loads(sys.argv[2]))]))
"""


def test_the_final_model(train, toy, store):
    """Loaded by its address in a fresh process, it says what the run said; weights are safetensors alone."""
    result = train(*toy)
    (model,) = logged(store)
    rows = predictions(result)
    said = fresh(LOAD, store, f"models:/{model.model_id}", json.dumps([row["text"] for row in rows]))
    assert said == [row["prediction"] for row in rows]
    names = {path.name for path in folder(model).rglob("*")}
    assert {"MLmodel", "model.safetensors", "requirements.txt", "input_example.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pkl", ".pt"))]


def test_it_is_linked_to_its_step_and_metrics(train, toy, store):
    """The model has the run, the best step, the metrics of its weights and the rows they were measured on."""
    result = train(*toy)
    (model,) = logged(store)
    client = connect(store)
    run = client.get_run(model.source_run_id)
    assert [(one.model_id, one.step) for one in run.outputs.model_outputs] == [(model.model_id, result.metrics["step"])]
    metrics = {metric.key: metric for metric in model.metrics}
    assert metrics["test/accuracy"].value == result.metrics["test_accuracy"]
    digests = {i.tags[0].value: i.dataset.digest for i in run.inputs.dataset_inputs}
    assert metrics["test/accuracy"].dataset_digest == digests["test"]
    assert metrics["eval/accuracy"].dataset_digest == digests["validation"]
    assert len(client.get_metric_history(run.info.run_id, "test/accuracy")) == 1


def test_pinned_requirements_and_a_signature(train, toy, store):
    """The exact versions are written down; text in, label and score out."""
    import mlflow

    train(*toy, "trainer.args.max_steps=1")
    (model,) = logged(store)
    info = mlflow.models.Model.load(str(folder(model)))
    assert info.signature.inputs.to_dict() == [{"type": "string", "name": "text", "required": True}]
    assert [column["name"] for column in info.signature.outputs.to_dict()] == ["label", "score"]
    lines = (folder(model) / "requirements.txt").read_text().split()
    assert all("==" in line for line in lines)
    assert any(line.startswith("transformers==") for line in lines)


LITERALS = ["123", "None", "['a', 'b']", "{'a': 1}", "1e5", "True", "'quoted'", "b'bytes'", "(1, 2)", "good film"]


def test_served_model_takes_literals_as_text(train, toy, store):
    """A text that is a Python literal is classified as text, whatever other texts the request has."""
    import mlflow
    import pandas as pd

    train(*toy, "trainer.args.max_steps=1")
    (model,) = logged(store)
    served = mlflow.pyfunc.load_model(str(folder(model)))
    expected = mlflow.transformers.load_model(str(folder(model)))(LITERALS)
    for texts in (LITERALS, LITERALS[:-1], *([text] for text in LITERALS)):
        answer = served.predict(pd.DataFrame({"text": texts}))
        scores = [expected[LITERALS.index(text)]["score"] for text in texts]
        assert list(answer["score"]) == pytest.approx(scores, abs=1e-5)
    with pytest.raises(mlflow.MlflowException, match="text"):  # it would evaluate texts without a column
        served.predict(LITERALS[:-1])


def test_checkpoints(train, toy, store):
    """`all` records each checkpoint under its step, `best` those that were the best so far; no file is left behind."""
    steps = ["trainer.args.logging_steps=1", "trainer.args.num_train_epochs=3"]
    result = train(*toy, *steps, "tracking.log_checkpoints=all", directory="all")
    (name,) = run_names(store)
    assert [model.name for model in logged(store)] == [*(f"{name} checkpoint-{i}" for i in (1, 2, 3)), name]
    assert not (result.directory / ".models_to_send").exists()
    ranked = connect(store).search_logged_models(
        [logged(store)[0].experiment_id], order_by=[{"field_name": "metrics.eval/loss", "ascending": True}]
    )
    losses = [{m.key: m.value for m in model.metrics}["eval/loss"] for model in ranked]
    assert losses == sorted(losses)
    train(*toy, *steps, "tracking.log_checkpoints=best", "trainer.args.learning_rate=0", directory="best")
    (other,) = run_names(store) - {name}
    assert [model.name for model in logged(store)[4:]] == [f"{other} checkpoint-1", other]


def test_the_registry(train, toy, store):
    """A name makes a version, and an alias moves to the newest."""
    for directory in ("one", "two"):
        names = ["tracking.registered_model_name=films", "tracking.registered_model_alias=candidate"]
        train(*toy, *names, "trainer.args.max_steps=1", directory=directory)
    client = connect(store)
    version = client.get_model_version_by_alias("films", "candidate")
    assert int(version.version) == 2
    code = "import sys, json, mlflow; print(json.dumps(str(mlflow.transformers.load_model(sys.argv[1]).task)))"
    assert fresh(code, store, "models:/films@candidate") == "text-classification"


def test_delivered_later(train, toy, store):
    """A store that was down gets the model by `sync`, which loads no network: two threads must not do so at once."""
    result = train(*toy, "trainer.args.max_steps=1", "tracking=mlflow", "tracking.uri=http://127.0.0.1:9")
    code = (
        "import json, sys\n"
        "from hydratune.cli.main import dispatch\n"
        "assert dispatch(['sync', sys.argv[1], '--uri', sys.argv[2]]) == 0\n"
        "print(json.dumps('transformers' in sys.modules))"
    )
    command = [sys.executable, "-c", code, str(result.directory), store]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "false"
    (model,) = logged(store)
    assert (folder(model) / "MLmodel").is_file()
    assert not (result.directory / ".models_to_send").exists()


def test_no_models(train, toy, store):
    """`tracking.log_models=false` keeps weights out of MLflow."""
    train(*toy, "trainer.args.max_steps=1", "tracking.log_models=false")
    assert logged(store) == []


def test_a_task_without_a_pipeline(train, tiny, store):
    """Of a network that no pipeline serves MLflow has the files as they are."""
    few = [f"dataset.max_samples.{split}=20" for split in ("train", "validation", "test")]
    train(*tiny, "experiment=wordnet_multiple_choice", *few)
    (model,) = logged(store)
    names = [path.name for path in folder(model).iterdir()]
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= set(names)
    assert "MLmodel" not in names


def test_adapters(train, toy, store):
    """A merged adapter is a model that is served; one that is not merged is recorded as its files."""
    lora = [*toy, "adapter=lora", "adapter.config.target_modules=[query]", "trainer.args.max_steps=1"]
    train(*lora, "adapter.merge=true", directory="merged")
    train(*lora, directory="apart")
    merged, apart = ([path.name for path in folder(model).iterdir()] for model in logged(store))
    assert "MLmodel" in merged
    assert "adapter_model.safetensors" in apart


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wordnet_token_classification", "wordnet_masked_lm", "wordnet_regression",
                                  "wordnet_multi_label_classification", "wordnet_causal_lm", "digits",
                                  "wordnet_supervised_fine_tuning", "wordnet_pair_classification"])  # fmt: skip
def test_every_pipeline(name, train, tiny_model, store, compose):
    """The model of each task that a pipeline serves loads through `mlflow.transformers` and answers."""
    import mlflow

    model = compose(f"experiment={name}").hydra.runtime.choices.model
    replaced = ["model=pretrained", "model.pretrained_model_name_or_path={tiny}"]
    tiny = [override.format(tiny=tiny_model) for override in TINY.get(model, replaced)]
    few = [f"dataset.max_samples.{split}=64" for split in ("train", "validation", "test")]
    train(f"experiment={name}", *tiny, *few, "trainer.args.max_steps=1", "hardware.threads=1")
    (found,) = logged(store)
    pipeline = mlflow.transformers.load_model(str(folder(found)))
    if name == "digits":
        return
    served = mlflow.pyfunc.load_model(str(folder(found)))
    assert len(served.predict(served.input_example))
    assert pipeline.task == served.metadata.flavors["transformers"]["task"]


@pytest.mark.slow
def test_served(train, toy, store, tmp_path):
    """`mlflow models serve` answers on loopback with what the run predicted."""
    result = train(*toy)
    (model,) = logged(store)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = ["models", "serve", "-m", f"models:/{model.model_id}", "-p", str(port), "--env-manager", "local"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *command],
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": store,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        rows = predictions(result)
        asked = json.dumps({"dataframe_records": [{"text": row["text"]} for row in rows]}).encode()
        answer = _ask(server, f"http://127.0.0.1:{port}/invocations", asked)
    except BaseException:
        print((tmp_path / "log").read_text())
        raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, 9)
        server.wait()
    assert [one["label"] for one in answer["predictions"]] == [row["prediction"] for row in rows]


def _ask(server, url, body):
    """The answer of a server that may still be starting, on a machine that may be busy."""
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    for _ in range(1200):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:
            time.sleep(0.25)
    raise TimeoutError(url)
