"""Predictions of finished runs: those of the run itself, from files without labels, whole or absent."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from conftest import looked_at_every, predictions, write_rows
from hydratune.cli import predict as cli
from hydratune.evaluation import predict as module
from hydratune.evaluation.evaluate import evaluate
from hydratune.evaluation.load_run import open_run
from hydratune.evaluation.predict import PredictRequest, predict
from hydratune.tracking.client import connect
from hydratune.tracking.mlflow import Mlflow
from hydratune.utils.errors import ConfigError

TEXTS = ["the film was good", "the book was bad", "a great film", "not very good", "awful"]
LONG = ["the film was good"] * 2 + ["the film was bad " * 12]  # in windows
DATA = {
    "sequence_classification": [{"text": t, "label": "pos" if "good" in t else "neg"} for t in TEXTS],
    "regression": [{"text": t, "label": len(t) / 10} for t in TEXTS],
    "multi_label_classification": [{"text": t, "labels": [w for w in ("good", "film") if w in t]} for t in TEXTS],
    "token_classification": [
        {"tokens": t.split(), "labels": ["B-q" if w in ("good", "bad") else "O" for w in t.split()]} for t in LONG
    ],
    "question_answering": [
        {"id": str(i), "question": "the film", "context": t, "answers": {"text": ["film"], "answer_start": [4]}}
        for i, t in enumerate(LONG)
    ],
    "multiple_choice": [{"text": t, "choices": ["good", "bad", "awful"], "label": i % 3} for i, t in enumerate(TEXTS)],
    "seq2seq": [{"source": t, "target": t.split()[-1]} for t in TEXTS],
}
TARGETS = {"label", "labels", "answers", "target", "completion"}
MORE = {
    "multi_label_classification": ["task.tune_threshold=true"],
    "question_answering": ["task.version_2_with_negative=true", "task.doc_stride=4"],
    "seq2seq": ["model=minilm_seq2seq", "task.max_target_length=6"],
}


def write(folder, rows):
    """The rows with labels for a run, and without for predictions."""
    for split in ("train", "validation", "test"):
        write_rows(folder / f"{split}.jsonl", rows)
    bare = [{name: value for name, value in row.items() if name not in TARGETS} for row in rows]
    return write_rows(folder / "new.jsonl", bare)


FILES = ["dataset=local", *(f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test"))]


def said(file, result, *overrides, **asked):
    """The rows that are written for a file."""
    out = Path("out.jsonl")
    predict(PredictRequest(str(result.directory), file, overrides, out=out, **asked))
    return [json.loads(line) for line in out.read_text().splitlines()]


def without_inputs(rows):
    """What was predicted, of rows that have more."""
    wanted = ("prediction", "predictions", "probability", "probabilities", "index")
    return [{name: row[name] for name in wanted if name in row} for row in rows]


def same(rows):
    """What rows have to be equal to that were computed in other batches."""
    return [
        {k: pytest.approx(v, abs=1e-5) if k.startswith("probab") or isinstance(v, float) else v for k, v in row.items()}
        for row in without_inputs(rows)
    ]


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("task", DATA)
def test_a_run_predicts_what_it_predicted(train, tiny, tiny_model, own_directory, monkeypatch, task, batch_size):
    """Without labels, in batches of any size and chunks of few rows, a run's test rows get the run's predictions."""
    file = write(own_directory, DATA[task])
    seq2seq = [f"model.encoder={tiny_model}", *tiny[2:]]
    model = seq2seq if task == "seq2seq" else tiny
    result = train(*FILES, f"task={task}", *MORE.get(task, []), *model)
    if batch_size:
        monkeypatch.setattr(module, "CHUNK", 2)
    rows = said(file, result, batch_size=batch_size)
    assert without_inputs(rows) == same(predictions(result))
    bare = [json.loads(line) for line in file.read_text().splitlines()]
    assert [{name: row[name] for name in bare[0]} for row in rows] == bare
    assert not TARGETS & {*rows[0]}


def test_images(train, own_directory):
    """Files that name images get the run's labels; the path is kept, the image is not."""
    for i in range(6):
        Image.new("RGB", (8, 8), ["red", "blue"][i % 2]).save(own_directory / f"{i}.png")
    file = write(own_directory, [{"image": f"{i}.png", "label": ["red", "blue"][i % 2]} for i in range(6)])
    sizes = {"num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 2}
    small = [f"model.config.{name}={value}" for name, value in sizes.items()]
    steps = ["hardware=cpu", "hardware.threads=1", "trainer.args.max_steps=2"]
    result = train(*FILES, "task=image_classification", "model=vit_tiny", *small, *steps)
    rows = said(file, result)
    assert without_inputs(rows) == same(predictions(result))
    assert [row["image"] for row in rows] == [f"{i}.png" for i in range(6)]


@pytest.mark.parametrize("merge", ["false", "true"])
def test_adapters(train, toy, own_directory, merge):
    """A run with an adapter, merged or not, predicts as it did."""
    rows = [json.loads(line) for line in Path("test.jsonl").read_text().splitlines()]
    file = write_rows(own_directory / "new.jsonl", [{"text": row["text"]} for row in rows])
    result = train(*toy, "adapter=lora", "adapter.config.r=2", f"adapter.merge={merge}")
    found = without_inputs(said(file, result))
    assert found == same(predictions(result))


def test_a_causal_model_goes_on(train, tiny_gpt, own_directory):
    """It writes what greedy generation writes, for texts of any length in one batch, and no more than was asked for."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (own_directory / "train.txt").write_text("the film was good\n" * 40)
    (own_directory / "new.txt").write_text("the\nthe film was\n\n")
    files = ["dataset=local", "dataset.files.train=train.txt", "task.block_size=32", "task.document_separator=newline"]
    result = train("task=causal_lm", *files, *tiny_gpt)
    rows = said(own_directory / "new.txt", result, "task.max_new_tokens=6")
    assert [row["text"] for row in rows] == ["the", "the film was", ""]
    network = AutoModelForCausalLM.from_pretrained(result.directory / "model")
    tokenizer = AutoTokenizer.from_pretrained(result.directory / "model")
    for row in rows:
        ids = tokenizer(row["text"] or "\n", return_tensors="pt")
        written = network.generate(**ids, max_new_tokens=6, do_sample=False, eos_token_id=None)[0]
        assert row["prediction"] == tokenizer.decode(written[ids["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("form", ["prompt", "messages"])
def test_a_chat_is_answered(train, tiny_gpt, own_directory, form):
    """The answer that was learned, up to the end of the turn; an answer in the file is ignored."""
    asked = [{"prompt": f"{i}", "completion": "yes"} for i in range(8)]
    turns = [{"role": "user", "content": "1"}]
    ignored = [*turns, {"role": "assistant", "content": "no"}]
    new = {"prompt": [{"prompt": "1"}, {"prompt": "3"}], "messages": [{"messages": turns}, {"messages": ignored}]}[form]
    write(own_directory, asked)
    file = write_rows(own_directory / "new.jsonl", new)
    learn = ["task.chat_template=simple", "trainer.args.max_steps=60", "trainer.args.learning_rate=0.02"]
    result = train(*FILES, "task=supervised_fine_tuning", *tiny_gpt, *learn, *looked_at_every(20))
    assert [row["prediction"] for row in said(file, result)] == ["yes", "yes"]


def test_masks_are_filled(train, tiny, own_directory):
    """Each mask gets the most probable token; a text without one stays as it is."""
    (own_directory / "a.txt").write_text("the film was good\n" * 20)
    files = [f"dataset.files.{split}=a.txt" for split in ("train", "validation", "test")]
    learn = ["trainer.args.max_steps=80", "trainer.args.learning_rate=0.02"]
    result = train("dataset=local", "task=masked_lm", *files, *tiny, *learn, *looked_at_every(40))
    file = write_rows(own_directory / "new.jsonl", [{"text": "the [MASK] was [MASK]"}, {"text": "a book"}])
    rows = said(file, result)
    assert rows[0] == {
        "row": 0,
        "text": "the [MASK] was [MASK]",
        "prediction": "the film was good",
        "tokens": ["film", "good"],
    }
    assert rows[1] == {"row": 1, "text": "a book", "prediction": "a book", "tokens": []}


@pytest.fixture
def finished(train, toy):
    """A run of two steps."""
    return train(*toy, "trainer.args.max_steps=2")


def test_formats(finished, own_directory):
    """Csv and parquet hold what jsonl holds, whatever the file was; other names of columns can be given."""
    import pandas as pd

    file = own_directory / "new.csv"
    file.write_text("id,review\n1,the film was good\n2,a book\n")
    column = "++dataset.columns.text=review"
    rows = said(file, finished, column)
    for suffix in ("csv", "parquet"):
        predict(PredictRequest(str(finished.directory), file, [column], out=Path(f"out.{suffix}")))
    with Path("out.csv").open() as lines:
        cells = [*csv.DictReader(lines)]
    texts = [{**row, "probabilities": json.dumps(row["probabilities"])} for row in rows]
    assert cells == [{name: str(value) for name, value in row.items()} for row in texts]
    pairs = [{**row, "probabilities": [*row["probabilities"].items()]} for row in rows]  # a map column
    assert pd.read_parquet("out.parquet").to_dict("records") == pairs


def test_limit_and_stdout(finished, capsys):
    """The first rows alone, as lines on stdout, with nothing else among them."""
    assert cli.main([str(finished.directory), "test.jsonl", "--max-samples", "3"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert without_inputs(rows) == same(predictions(finished)[:3])


def test_predict_rejects_unknown_columns(finished, own_directory):
    """A column that the task does not have is an error, not ignored."""
    with pytest.raises(ConfigError) as error:
        said(own_directory / "test.jsonl", finished, "++dataset.columns.foo=nope")
    assert [problem.key for problem in error.value.problems] == ["dataset.columns.foo"]


@pytest.fixture
def trained_on_gpu(finished):
    """A finished run whose stored config requires a GPU."""
    config = finished.directory / "config.yaml"
    config.write_text(config.read_text().replace("device: cpu", "device: cuda"))
    assert "device: cuda" in config.read_text()
    return finished


def test_predict_on_other_hardware(trained_on_gpu, own_directory):
    """A run that was trained on a GPU predicts on a CPU."""
    with pytest.raises(ConfigError):
        said(own_directory / "test.jsonl", trained_on_gpu)
    rows = said(own_directory / "test.jsonl", trained_on_gpu, "hardware=cpu", "hardware.threads=1")
    assert without_inputs(rows) == same(predictions(trained_on_gpu))


def test_predict_checks_hardware(finished, own_directory):
    """A value that the hardware does not have is an error before anything is loaded."""
    for override, key in (("hardware.threads=0", "hardware.threads"), ("hardware.device=tpu", "hardware.device")):
        with pytest.raises(ConfigError) as error:
            said(own_directory / "test.jsonl", finished, override)
        assert [problem.key for problem in error.value.problems] == [key]


def test_predict_batches_by_length(finished, own_directory, monkeypatch):
    """Batches hold texts of similar length, and predictions come in the order of the file."""
    texts = ["good", "the film was very good " * 5, "bad", "the book was very bad " * 5]
    file = write_rows(own_directory / "new.jsonl", [{"text": text} for text in texts])
    shapes = []
    task = type(finished_task(finished))
    predict_batch = task.predict_batch
    monkeypatch.setattr(
        task,
        "predict_batch",
        lambda self, net, batch: shapes.append(batch["input_ids"].shape) or predict_batch(self, net, batch),
    )
    rows = said(file, finished, batch_size=2)
    assert [row["text"] for row in rows] == texts
    assert [shape[1] for shape in shapes] == [27, 3]
    alone = said(file, finished, batch_size=1)
    assert without_inputs(rows) == same(alone)


def finished_task(run):
    """The task of a finished run."""
    from hydratune.evaluation.load_run import build_task, open_run

    return build_task(open_run(str(run.directory), "sqlite:///none.db").cfg)


def test_predict_writes_all_columns_and_row_numbers(finished, own_directory):
    """Predictions can be joined with their input: the file's columns under their own names, and the row's number."""
    rows = [
        {"id": "007", "review": "the film", "stars": 3, "mixed": 1},
        {"id": "008", "review": "a book", "stars": 4, "mixed": "x"},
    ]
    file = write_rows(own_directory / "new.jsonl", rows)
    written = said(file, finished, "++dataset.columns.text=review")
    assert [{name: row[name] for name in ("row", *rows[0])} for row in written] == [
        {"row": i, **row} for i, row in enumerate(rows)
    ]
    assert {*written[0]} == {"row", *rows[0], "prediction", "probability", "probabilities"}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_predict_writes_columns_of_mixed_types(finished, own_directory, suffix):
    """Columns that the task does not read may hold anything, in every output format."""
    import pandas as pd

    rows = [{"text": "the film", "extra": 1, "none": None}, {"text": "a book", "extra": "x", "none": {"a": [1]}}]
    file = write_rows(own_directory / "new.jsonl", rows)
    out = own_directory / f"out.{suffix}"
    predict(PredictRequest(str(finished.directory), file, out=out))
    frame = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    assert [str(value).strip('"') for value in frame["extra"]] == ["1", "x"]
    assert list(frame["row"]) == [0, 1]


def test_predict_reads_numbers_in_csv_as_texts(finished, own_directory):
    """Whether an input can be predicted does not depend on the other inputs of the file."""
    file = own_directory / "new.csv"
    file.write_text("id,text\n1,12\n2,13\n")
    assert [(row["id"], row["text"]) for row in said(file, finished)] == [(1, "12"), (2, "13")]


def test_predict_writes_chosen_columns(finished, own_directory):
    """`--columns` limits the output to some columns; one that the file does not have is an error."""
    file = write_rows(own_directory / "new.jsonl", [{"id": 7, "text": "the film"}])
    assert {*said(file, finished, columns=["id"])[0]} == {"row", "id", "prediction", "probability", "probabilities"}
    assert {*said(file, finished, columns=[])[0]} == {"row", "prediction", "probability", "probabilities"}
    with pytest.raises(ConfigError) as error:
        said(file, finished, columns=["ids"])
    assert [problem.key for problem in error.value.problems] == ["--columns"]


def test_predict_rejects_columns_named_like_its_output(finished, own_directory):
    """No column is overwritten; the error comes before anything is written."""
    file = write_rows(own_directory / "new.jsonl", [{"text": "the film", "prediction": "pos"}])
    with pytest.raises(ConfigError) as error:
        said(file, finished)
    assert [problem.key for problem in error.value.problems] == ["FILE"]
    assert not Path("out.jsonl").exists()


def test_predict_numbers_count_dropped_rows(finished, own_directory):
    """A row's number is its position in the file, whatever rows before it were dropped."""
    (own_directory / "new.jsonl").write_text(BAD)
    assert [row["row"] for row in said(own_directory / "new.jsonl", finished, skip_bad_rows=True)] == [0, 2]
    (own_directory / "new.jsonl").write_text("".join(reversed(BAD.splitlines(keepends=True))))
    assert [row["row"] for row in said(own_directory / "new.jsonl", finished, skip_bad_rows=True)] == [1, 3]


BAD = '{"text": "the film"}\n{"text": null}\n{"text": "a book"}\nnonsense\n'


def test_bad_rows_are_refused(finished, own_directory):
    """Each is named with its line and a reason, before anything is written."""
    (own_directory / "new.jsonl").write_text(BAD)
    with pytest.raises(ConfigError) as error:
        said(own_directory / "new.jsonl", finished)
    missing, invalid, total = error.value.problems
    path = own_directory / "new.jsonl"
    assert (invalid.source, "'nonsense'" in invalid.text) == (f"{path}:4", True)
    assert (missing.key, missing.source) == ("dataset.columns.text", f"{path}:2")
    assert (total.key, "2 of 4" in total.text, "--on-bad-rows skip" in total.hint) == ("FILE", True, True)
    assert not [*own_directory.glob("*out.jsonl*")]


def test_bad_rows_are_left_out(finished, own_directory, caplog):
    """The others are predicted for, and what is left out is said."""
    (own_directory / "new.jsonl").write_text(BAD)
    rows = said(own_directory / "new.jsonl", finished, skip_bad_rows=True)
    assert [row["text"] for row in rows] == ["the film", "a book"]
    assert "data: 2 of 4 rows are skipped" in caplog.messages


def test_a_failure_leaves_no_file(finished, own_directory, monkeypatch):
    """What was there stays as it was, and half a file is gone."""
    Path("out.jsonl").write_text("before")
    monkeypatch.setattr(module, "CHUNK", 1)
    calls = []

    def fail(self, inputs):
        if calls:
            raise RuntimeError
        calls.append(inputs)
        return responses(self, inputs)

    responses = module.Predictor._responses
    monkeypatch.setattr(module.Predictor, "_responses", fail)
    with pytest.raises(RuntimeError):
        said(own_directory / "test.jsonl", finished, batch_size=1)
    assert Path("out.jsonl").read_text() == "before"
    assert calls and not [*own_directory.glob(".out*")]


def test_few_rows_are_held(finished, own_directory, monkeypatch):
    """No more than a chunk is read, checked or answered at once."""
    monkeypatch.setattr(module, "CHUNK", 4)
    seen = []
    rows = module.Predictor.rows
    monkeypatch.setattr(module.Predictor, "rows", lambda self, part: seen.append(len(part)) or rows(self, part))
    assert len(said(own_directory / "train.jsonl", finished, batch_size=2)) == 32
    assert seen == [4] * 8


@pytest.mark.parametrize(
    ("asked", "key", "text", "hint"),
    [
        ({"run": "nowhere"}, "RUN", "'nowhere'", "hydratune runs"),
        ({"run": "."}, "RUN", "config.yaml", "hydratune runs"),
        ({"file": Path("none.jsonl")}, "FILE", "none.jsonl", ""),
        ({"out": Path("out.txt")}, "--out", "'out.txt'", ""),
        ({"out": Path("no/out.csv")}, "--out", "'no'", ""),
        ({"out": Path("test.jsonl")}, "--out", "'test.jsonl'", ""),
        ({"batch_size": 0}, "--batch-size", "1, not 0", ""),
        ({"max_samples": 0}, "--max-samples", "1, not 0", ""),
        ({"columns": ["txt", "no"]}, "--columns", "'txt', 'no'", "exists: text"),
        ({"overrides": ["seed=3"]}, "seed", "'seed=3'", "--help"),
        ({"overrides": ["dataset.colums.text=a"]}, "dataset.colums.text", "dataset.colums", "dataset.columns"),
        ({"overrides": ["dataset.columns.text=a,b"]}, "dataset.columns.text", "'a,b'", ""),
        ({"overrides": ["dataset.columns.text=none"]}, "dataset.columns.text", "'none'", ""),
    ],
)
def test_errors(finished, asked, key, text, hint):
    """Each invalid argument is an error that names it."""
    with pytest.raises(ConfigError) as error:
        predict(PredictRequest(**{"run": str(finished.directory), "file": Path("test.jsonl"), **asked}))
    (problem,) = error.value.problems
    assert problem.key == key
    assert text in problem.message
    assert hint in "; ".join(problem.hints)


def test_errors_come_together(finished):
    """All errors of the command line are told at once."""
    with pytest.raises(ConfigError) as error:
        predict(
            PredictRequest(str(finished.directory), Path("test.jsonl"), ["seed=1"], max_samples=0, out=Path("a.txt"))
        )
    assert len(error.value.problems) == 3


def test_a_changed_config_runs_no_code(finished):
    """What a stored config names is checked as that of any config, before anything of it is built."""
    config = finished.directory / "config.yaml"
    text = config.read_text()
    assert "hydratune.training.Hardware" in text
    config.write_text(text.replace("hydratune.training.Hardware", "os.system"))
    with pytest.raises(ConfigError) as caught:
        predict(PredictRequest(str(finished.directory), Path("test.jsonl")))
    (problem,) = caught.value.problems
    assert problem.key == "hardware._target_"
    assert "'os.system'" in problem.text


@pytest.mark.parametrize("way", ["pointer", "tag"])
def test_by_run_id(train, toy, store, way, capsys):
    """An MLflow run id leads to the run's directory, by the pointers of runs below here or by its tag."""
    folder = "outputs/toy/a" if way == "pointer" else "elsewhere"
    Path(folder).parent.mkdir(exist_ok=True)
    result = train(*toy, "trainer.args.max_steps=1", directory=folder)
    run_id = json.loads((result.directory / "mlflow.json").read_text())["run_id"]
    if way == "tag":
        connect(store).set_tag(run_id, "hydratune.directory", str(result.directory))
    capsys.readouterr()  # what the run said
    predict(PredictRequest(run_id, Path("test.jsonl"), max_samples=1))
    assert json.loads(capsys.readouterr().out)["text"]


@pytest.mark.usefixtures("store")
def test_an_unknown_run_id():
    """It is told, and so is a store that is not there, of which none is made."""
    for uri, key, named in ((Mlflow.uri, "RUN", "0" * 32), ("sqlite:///none.db", "--uri", "/none.db'")):
        with pytest.raises(ConfigError) as error:
            predict(PredictRequest("0" * 32, Path("a.csv"), uri=uri))
        (problem,) = error.value.problems
        assert (problem.key, named in problem.text) == (key, True)
    assert not Path("none.db").exists()


def test_predict_reads_a_file_like_the_runs_files(train, tiny):
    """Without a header and with a delimiter of its own, as in training; another file can be read in another way."""
    Path("a.csv").write_text("".join(f"{text};{'ab'[i % 2]}\n" for i, text in enumerate(TEXTS * 2)))
    options = ["dataset.delimiter=;", "dataset.header=false", "dataset.columns.text=0", "dataset.columns.label=1"]
    result = train(*tiny, "dataset=local", "dataset.files.train=a.csv", *options)
    Path("new.csv").write_text("good film\n")
    Path("new.jsonl").write_text('{"text": "good film"}\n')
    (own,) = said(Path("new.csv"), result)
    (other,) = said(Path("new.jsonl"), result, "dataset.columns.text=text")
    assert own["0"] == other["text"] == "good film"
    assert own["prediction"] == other["prediction"]


def test_predict_and_evaluate_read_a_split_of_a_document(train, toy, own_directory):
    """Predict the split that is named, and evaluate the run's test split or another one."""
    toy_rows = {split: Path(f"{split}.jsonl").read_text().splitlines() for split in ("train", "validation", "test")}
    document = {split: [json.loads(line) for line in lines] for split, lines in toy_rows.items()}
    file = own_directory / "films.json"
    file.write_text(json.dumps(document))
    files = ["dataset.files.train=films.json", "dataset.files.validation=null", "dataset.files.test=null"]
    result = train(*toy, *files, *(f"dataset.splits.{split}={split}" for split in document))
    with pytest.raises(ConfigError) as caught:
        said(file, result)
    assert [one.key for one in caught.value.problems] == ["dataset.splits.train"]
    assert without_inputs(said(file, result, "dataset.splits.train=test")) == same(predictions(result))
    run = open_run(str(result.directory), "")
    assert [evaluate(run, overrides).rows for overrides in ([], ["dataset.splits.test=train"])] == [16, 32]
