"""Whatever is typed, the config is in order or there are messages; nothing else is raised."""

import re
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from conftest import write_rows
from hydratune.cli.main import dispatch
from hydratune.config.composition import Request, compose_config, composer, without_hydra
from hydratune.utils.errors import KEY, ConfigError

FEW = settings(derandomize=True, deadline=None, database=None, phases=[Phase.generate], max_examples=30)
FILES = ["dataset=local", "dataset.files.train=a.jsonl"]
PARSER = re.compile(r" expecting [{<']")  # text of Hydra's generated parser

AWKWARD = """null true -1 0 1.5 1e400 99999999999999999999999 nan -inf ??? '???' '' no auto x 0x10 1_000 ${seed} ${nope} ${name}
    '${oc.env:NOPE}' ${oc.env:PATH} ${trainer.args} ${oc.decode:x} ${now:%Y} ${hydra:job.name}"""
TEXTS = st.text(st.sampled_from([*"abc=.,:;'\"\\(){}[]$~+@!#%&*<>|/? \t\n\0\u20ac_1"]), max_size=8)
SCALARS = st.one_of(
    st.sampled_from(AWKWARD.split()), TEXTS, TEXTS.map(repr), st.integers().map(str), st.floats().map(str)
)
VALUES = st.recursive(
    SCALARS,
    lambda one: st.one_of(
        st.lists(one, max_size=3).map(lambda some: f"[{','.join(some)}]"),
        st.dictionaries(st.sampled_from("ab"), one).map(lambda some: f"{{{','.join(map(':'.join, some.items()))}}}"),
    ),
    max_leaves=3,
)
GROUPS = "dataset task model adapter trainer hardware tracking experiment sweep trainer/callbacks hydra/launcher dataset@x no/group"
OPTIONS = ["none", "nope", "null", "[a]", "[]", "a,b", "a/b", "../x", "", "'x y'", "local", "default"]
UNKNOWN = [
    "",
    ".",
    "a.",
    ".a",
    "a b",
    "hydra.run.dir",
    "hydra.nope",
    "defaults",
    "vars.x",
    "seed.x",
    "_target_",
    "$",
    "1",
]


def inner_keys(node, parent=""):
    """Every key of a config, inner nodes included."""
    for name, value in node.items() if isinstance(node, dict) else ():
        yield f"{parent}.{name}".lstrip(".")
        yield from inner_keys(value, f"{parent}.{name}")


def overrides():
    """Several of any kind: values of keys that there are and of others, deletions, options of groups, and mere text."""
    request = Request(("dataset=local", "trainer/callbacks=[early_stopping]"))
    with composer(request):
        cfg = without_hydra(compose_config(request, request.overrides))
    known = st.sampled_from([*inner_keys(OmegaConf.to_container(cfg, resolve=False))])
    below = st.sampled_from(["x", "_args_", "_target_", "_partial_", "_convert_", "_recursive_", "0"])
    names = st.one_of(known, known, known, st.sampled_from(UNKNOWN), st.tuples(known, below).map(".".join))
    groups = st.sampled_from(GROUPS.split())
    value = st.tuples(st.sampled_from(["", "+", "++"]), names, st.just("="), VALUES).map("".join)
    deletion = st.tuples(st.just("~"), names | groups, st.sampled_from(["", "=x", "=null"])).map("".join)
    choice = st.tuples(st.sampled_from(["", "+"]), groups, st.just("="), st.sampled_from(OPTIONS)).map("".join)
    return st.lists(st.one_of(value, value, value, deletion, choice, TEXTS), min_size=1, max_size=4)


@pytest.mark.slow
@FEW
@given(typed=overrides(), base=st.sampled_from([[], FILES]))
def test_any_override(typed, base):
    """Each message and each hint is one line in our own words."""
    write_rows(Path("a.jsonl"), [{"text": "good", "label": "x"}, {"text": "bad", "label": "y"}])
    try:
        assert dispatch(["--dry-run", *base, *typed]) == 0
        told = []
    except ConfigError as error:
        told = [text for problem in error.problems for text in (problem.message, *problem.hints)]
    wrong = [text for text in told if not text or "\n" in text or KEY in text or PARSER.search(text)]
    assert wrong == []
