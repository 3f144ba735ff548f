"""Every command in README.md and docs/ composes and validates as it is typed in bash."""

import argparse
import gzip
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hydratune.cli.main import VERBS, dispatch
from hydratune.config.composition import Request, composer
from hydratune.config.options import shipped_dir
from hydratune.utils.arguments import ArgumentParser
from hydratune.utils.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
# What stands for a value of the reader's own.
PLACEHOLDERS = {
    "KEY=VALUE": "dataset.format=csv",
    "OVERRIDE": "dataset=local",
    "N": "1",
    "P": "0.9",
    "NAME,...": "text",
    "task=NAME": "task=sequence_classification",
    "experiment=NAME": "experiment=digits",
    "model.revision=COMMIT": f"model.revision={COMMIT}",
    "model.pretrained_model_name_or_path=...": "model.pretrained_model_name_or_path=OWNER/NAME",
    "sweep.storage=postgresql://...": "sweep.storage=sqlite:///study.db",
    "hydra.run.dir=/shared/my_run": "hydra.run.dir=shared/my_run",
    "hydra.sweep.dir=/shared/my_sweep": "hydra.sweep.dir=shared/my_sweep",
    "/abs/path/of/my_conf": "primary",
    "hardware.launch.nnodes=$WORLD_SIZE": "hardware.launch.nnodes=2",
    "hardware.launch.node_rank=$RANK": "hardware.launch.node_rank=1",
    "hardware.launch.rdzv_endpoint=$MASTER_ADDR:29500": "hardware.launch.rdzv_endpoint=host0:29500",
}
# What shows an error.
WRONG = {"hydratune dataset=locl trainer.args.learning_rat=3e-5 sede=7"}
# A word of a command that ends in `...` -> what belongs there.
REST = {
    "dataset@dataset.sources.a=local": "dataset.sources.a.files.train=a.csv dataset.sources.b.path=OWNER/NAME",
    "task.label_format=multi_hot": "dataset=local dataset.files.train=a.csv",
    "hardware.launch.nnodes=2": "hardware.launch.rdzv_endpoint=host0:29500",
    "hydra/launcher=submitit_slurm": "trainer.args.learning_rate=1e-5,3e-5",
}
# A word of a command that begins with `...` and does not continue the command before it -> what it continues.
BASES = {
    "model.trust_remote_code=true": "hydratune model=pretrained model.pretrained_model_name_or_path=OWNER/NAME",
    "dataset.streaming=true": "hydratune dataset=local dataset.files.train=a.csv dataset.files.validation=b.csv",
    "dataset.on_bad_rows=skip": "hydratune dataset=local dataset.files.train=a.csv",
    "dataset.test_size=0.1": "hydratune dataset=local dataset.files.train=a.csv",
    "dataset.delimiter=;": "hydratune dataset=local dataset.files.train=semicolons.csv",
    "dataset.header=false": "hydratune dataset=local dataset.files.train=bare.csv",
    "dataset.split_column=partition": "hydratune dataset=local dataset.files.train=parts.csv",
    "dataset.delimiter=::": "hydratune dataset=local dataset.files.train=colons.csv",
    "dataset.format=conll": "hydratune task=token_classification dataset=local dataset.files.train=columns.conll",
}


class Command(NamedTuple):
    """A command of a page.

    Args:
        text: As it is printed.
        base: What a leading `...` continues.
    """

    text: str
    base: str = ""


def commands(page: Path) -> Iterator[Command]:
    """Yield what begins with `hydratune` or with `...`, and the variants that a row of the recipes adds."""
    blocks = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
    text, base = page.read_text(encoding="utf-8"), ""
    for block in blocks.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.search(r"^(?:\$ )?(hydratune .*)|^srun bash -c '(hydratune .*)'", line)
            if found:
                yield Command(found[1] or found[2])
    for paragraph in re.split(r"\n\n|\n(?=\|)", blocks.sub("", text)):
        spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", paragraph)]
        ours = [span for span in spans if span.startswith(("hydratune ", "... "))]
        for span in ours:
            yield Command(span, base)
            base = span if span.startswith("hydratune ") else base
        if paragraph.startswith("|") and ours:
            variants = [span for span in spans if span not in ours and re.match(r"[+~]*[\w./@]+=", span)]
            yield from (Command(f"... {variant}", ours[0] if ours[0] in base else base) for variant in variants)


def words(command: Command) -> list[str]:
    """Split a command as bash would, with the placeholders filled in."""
    text = re.sub(r"\[(?=--|KEY|OVERRIDE)|(?<=\.\.\.)\]|(?<=[A-Zla-z])\](?= \[|$)", "", command.text)
    text = re.split(r" (?:\||>) ", text)[0]  # without what the shell does with the output
    first, *rest = shlex.split(text, comments=True)
    head = []
    if first == "...":
        base = next((base for word, base in BASES.items() if word in rest), command.base)
        head = words(Command(base))
    extra = [
        word for key, more in REST.items() if "..." in rest and any(key in one for one in rest) for word in more.split()
    ]
    filled = [PLACEHOLDERS.get(word, word) for word in rest]
    return [*head, *(word for word in filled if not word.endswith("...") or word == "RUN..."), *extra]


class Parsed(Exception):  # noqa: N818 (it is no error)
    """Ends a command once its arguments are parsed."""


@pytest.fixture
def reader(own_directory, monkeypatch):
    """Make the files that the recipes name, and end each command before it loads anything."""
    (own_directory / "my_conf" / "dataset").mkdir(parents=True)
    (own_directory / "my_conf" / "dataset" / "my_local.yaml").write_text("defaults: [local]\nfiles: {train: a.csv}\n")
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "migrating.md").read_text(), re.DOTALL)
    (own_directory / "my_conf" / "experiment").mkdir()
    (own_directory / "my_conf" / "experiment" / "reviews.yaml").write_text(example)
    primary = (shipped_dir() / "train.yaml").read_text(encoding="utf-8")
    (own_directory / "primary").mkdir()
    own = primary.replace("\nhydra:\n", "\nhydra:\n  searchpath: [pkg://hydratune.conf]\n")
    (own_directory / "primary" / "train.yaml").write_text(own, encoding="utf-8")
    names = ["text", "label", "review", "stars", "sentence1", "sentence2", "document", "toxic", "obscene", "weight"]
    rows = "".join(",".join([*(["good"] * 7), "0", "1", "1"]) + "\n" for _ in range(4))
    sets = [f"{name}_{split}.csv" for name in ("news", "web") for split in ("dev", "test")]
    for name in ("a.csv", "b.csv", "new.csv", "reviews.csv", "train.csv", *sets):
        (own_directory / name).write_text(",".join(names) + "\n" + rows)
    (own_directory / "semicolons.csv").write_text("text;label\ngood;0\n")
    (own_directory / "colons.csv").write_text("text::label\ngood::0\n")
    (own_directory / "parts.csv").write_text("text,label,partition\ngood,0,train\nbad,1,dev\nfair,1,test\n")
    (own_directory / "tags.csv").write_text("text,labels\ngood,a;b\nbad,a\n")
    (own_directory / "trec.txt").write_text("HUM:ind Who wrote it ?\nNUM:date When was it ?\n")
    (own_directory / "bare.csv").write_text("good,0\n")
    (own_directory / "swag.csv").write_text("sent1,sent2,ending0,ending1,ending2,ending3,label\na,b,c,d,e,f,0\n")
    arc = {"question": "a", "choices": {"label": ["A", "B"], "text": ["b", "c"]}, "answerKey": "A"}
    (own_directory / "arc.jsonl").write_text(json.dumps(arc) + "\n")
    with gzip.open(own_directory / "a.jsonl.gz", "wt") as file:
        file.write('{"header": {}}\n{"context": "a", "qas": []}\n')
    (own_directory / "sts.tsv").write_text("a\tb\t2012\t1\t2.5\tgood\tfair\n")
    (own_directory / "reviews").mkdir()
    (own_directory / "reviews" / "a.csv").write_text("text,label\ngood,0\n")
    keys = ("prompt", "completion", "document", "summary")
    nested = {"review": {"body": "good", "meta": {"stars": 1}}}
    (own_directory / "a.jsonl").write_text(json.dumps(dict.fromkeys(keys, "good") | nested) + "\n")
    splits = {name: [["good", "yes"]] for name in ("train", "val", "test", "oos_test")}
    (own_directory / "data.json").write_text(json.dumps(splits))
    for split in ("train", "test"):
        (own_directory / "data" / split / "cat").mkdir(parents=True)
        (own_directory / "data" / split / "cat" / "1.png").touch()
    (own_directory / "a.txt").write_text("good\n")
    answers = [{"text": "good", "answer_start": 0}]
    entry = {"context": "good", "qas": [{"id": "1", "question": "what", "answers": answers}]}
    squad = json.dumps({"data": [{"title": "x", "paragraphs": [entry]}]})
    for name in ("a.json", "xquad.en.json"):
        (own_directory / name).write_text(squad)
    for name in ("a.conll", "wnut17train.conll", "emerging.dev.conll", "emerging.test.annotated"):
        (own_directory / name).write_text("good\tO\n\n")
    (own_directory / "columns.conll").write_text("1\tgood\tO\n\n")
    (own_directory / "a.conllu").write_text("\t".join(["1", "good", "good", "ADJ", *("_" * 6)]) + "\n\n")
    (own_directory / "tinyshakespeare.txt").write_text("good\n")
    monkeypatch.setenv("SWEEP_STORAGE", "postgresql://USER@HOST/DATABASE")
    monkeypatch.setenv("HYDRATUNE_ALLOW", f"OWNER/NAME@{COMMIT}")
    monkeypatch.setattr("hydratune.utils.hub.check", lambda _: ())
    monkeypatch.setattr("hydratune.cli.train.preflight", lambda configs, *_, **__: [*configs] and "")
    for parser in (argparse.ArgumentParser, ArgumentParser):
        monkeypatch.setattr(parser, "parse_args", stopping(parser.parse_args))


def stopping(parse):
    """Parse, then raise `Parsed`; but Hydra's own flags are parsed as they are."""

    def stop(self, *args, **kwargs):
        namespace = parse(self, *args, **kwargs)
        if self.prog.startswith("hydratune "):
            raise Parsed(namespace)
        return namespace

    return stop


def validate(arguments: list[str]) -> None:
    """Do what `--dry-run` does; of a command with a verb, parse its arguments and its overrides."""
    if arguments[0] not in VERBS or arguments[0] in ("check", "lr-find"):
        assert dispatch([*arguments[arguments[0] == "check" :], "--dry-run"]) == 0
        return
    try:
        dispatch(arguments)
    except Parsed as done:
        request = Request(tuple(getattr(done.args[0], "overrides", ())))
        with composer(request):
            assert len(request.parsed) == len(request.overrides)


def is_mention(arguments: list[str]) -> bool:
    """Whether a span only names a verb."""
    return all(word in (*VERBS, "-m", "report", "plan", "finish") for word in arguments)


@pytest.mark.slow
@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_valid_as_typed(page, monkeypatch):
    """Each one composes and passes the checks of `--dry-run` that need neither rows nor weights."""
    monkeypatch.setattr("sys.argv", ["hydratune"])
    wrong = {}
    for command in commands(page):
        arguments = words(command)
        if is_mention(arguments):
            continue
        try:
            validate(arguments)
        except (ConfigError, SystemExit, AssertionError, ValueError) as error:
            if command.text in WRONG or getattr(error, "code", None) == 0:  # of --help
                continue
            wrong[command.text] = f"{shlex.join(arguments)}\n  {error}"
    assert not wrong, "\n".join(f"{text}\n  {error}" for text, error in wrong.items())


def test_commands_are_found():
    """The page of recipes has commands, variants of them, and commands that continue others."""
    found = [*commands(ROOT / "docs" / "recipes.md")]
    assert len(found) > 60
    assert sum(command.text.startswith("...") for command in found) > 10
