"""Code of a checkpoint, and kernels of the Hub: nothing in a process loads them, and transformers never asks."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer, dynamic_module_utils

import hydratune
from hydratune.config.import_guards import guard_imports
from hydratune.models.base import load_tokenizer
from hydratune.models.from_config import FromConfig
from hydratune.utils import hub
from hydratune.utils.errors import ConfigError

SOURCE = Path(hydratune.__file__).parent
LOADERS = ("from_pretrained", "from_config", "pipeline")
CODE = "import pathlib\npathlib.Path('CANARY').touch()\nfrom transformers import BertTokenizer, ViTImageProcessor\n"
KINDS = {"AutoTokenizer": "BertTokenizer", "AutoImageProcessor": "ViTImageProcessor"}


@pytest.fixture
def answers(monkeypatch, own_directory):
    """Answer yes to each question; return the questions."""
    questions = []
    monkeypatch.setattr("builtins.input", lambda text="": questions.append(text) or "y")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(own_directory / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(dynamic_module_utils, "TIME_OUT_REMOTE_CODE", 15)
    monkeypatch.setitem(sys.modules, "kernels", None)
    return questions


def write_code(folder, kind):
    """Write a module, and the reference to its class."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mod.py").write_text(f"{CODE}class Evil({KINDS[kind]}): pass\n")
    return {kind: ["mod.Evil", "mod.Evil"] if kind == "AutoTokenizer" else "mod.Evil"}


@pytest.fixture
def composite(own_directory):
    """Return a tokenizer that loads others from folders, without the argument that forbids code."""
    folder = own_directory / "rag"
    for name in ("question_encoder_tokenizer", "generator_tokenizer"):
        (folder / name).mkdir(parents=True)
        reference = write_code(folder, "AutoTokenizer")
        (folder / name / "tokenizer_config.json").write_text(json.dumps({"auto_map": reference}))
    parts = {"question_encoder": {"model_type": "vit"}, "generator": {"model_type": "vit"}}
    (folder / "config.json").write_text(json.dumps({"model_type": "rag", **parts}))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "RagTokenizer"}')
    return folder


def test_transformers_asks_for_parts_of_a_tokenizer(answers, composite):
    """Positive control: it runs the code after `y`, in spite of the argument."""
    AutoTokenizer.from_pretrained(composite, trust_remote_code=False)
    assert answers
    assert Path("CANARY").exists()


def test_transformers_does_not_ask(answers, composite):
    """Neither for a tokenizer nor for a part of it."""
    guard_imports()
    with pytest.raises(ConfigError) as caught:
        load_tokenizer("model.tokenizer", str(composite))
    assert [problem.key for problem in caught.value.problems] == ["model.tokenizer"]
    assert answers == []
    assert not Path("CANARY").exists()


@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer_config.json", "special_tokens_map.json", "model.safetensors.index.json"]
)
@pytest.mark.parametrize("folder", ["generator_tokenizer", "a/b"])
def test_files_in_folders_of_a_checkpoint_are_checked(own_directory, file, folder):
    """A tokenizer that loads another one there would read the file as a vocabulary."""
    path = own_directory / "checkpoint" / folder / file
    path.parent.mkdir(parents=True)
    content = {"weight_map": {"x": "../../../private"}} if "index" in file else {"vocab_file": "/home/me/.ssh/id_rsa"}
    path.write_text(json.dumps(content))
    (own_directory / "checkpoint" / "config.json").write_text("{}")
    with pytest.raises(ConfigError) as caught:
        hub.check_checkpoint("model", "checkpoint")
    assert f"{folder}/{file}" in caught.value.problems[0].text
    path.rename(path.with_name("notes.json"))  # positive control: nothing reads it
    hub.check_checkpoint("model", "checkpoint")


def test_two_tokenizers_are_not_one(own_directory, monkeypatch):
    """RAG has an object of its own for its two tokenizers."""
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: object())
    (own_directory / "x").mkdir()
    with pytest.raises(ConfigError):
        load_tokenizer("model.tokenizer", "x")


@pytest.mark.parametrize("model_type", ["vit", "dinov2_with_registers", "hgnet_v2", "oneformer"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"auto_map": {"AutoImageProcessor": "evil--mod.Evil"}},
        {"image_processor_type": "OneFormerImageProcessor", "repo_path": "evil", "class_info_file": "x.json"},
        {"repo_path": "evil", "class_info_file": "x.json"},
        {"feature_extractor_type": "ViTFeatureExtractor"},
        {"processor_class": "Evil"},
        {"size": {"height": 8, "width": 8}, "image_mean": "/home/me/x"},
    ],
)
def test_image_processor_of_a_config_names_no_code(answers, model_type, arguments):
    """Only arguments of the model's own class, whose values lead nowhere."""
    write_code(Path("evil"), "AutoImageProcessor")
    Path("evil/x.json").write_text("{}")
    model = FromConfig(model_type=model_type, image_processor=arguments)
    with pytest.raises(ConfigError):
        model.load_processor("image_processor", model.load_config())
    assert answers == []
    assert not Path("CANARY").exists()


def test_image_processor_takes_arguments():
    """Positive control."""
    model = FromConfig(model_type="vit", image_processor={"size": {"height": 8, "width": 8}, "do_normalize": False})
    processor = model.load_processor("image_processor", model.load_config())
    assert (dict(processor.size), processor.do_normalize) == ({"height": 8, "width": 8}, False)


def calls(names):
    """Yield each call of a function or a method with such a name, and its place."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", None))
            if isinstance(node, ast.Call) and name in names:
                yield f"{path.relative_to(SOURCE)}:{node.lineno}", node


def test_each_call_says_whether_code_may_run():
    """Without the argument, transformers would ask. Peft's own classes do not take it, and load no code."""
    places = {}
    for place, node in calls(LOADERS):
        owner = ast.unparse(node.func).partition(".")[0]
        if not owner.startswith("Peft"):
            places[place] = {word.arg: ast.unparse(word.value) for word in node.keywords}.get("trust_remote_code")
    assert len(places) > 10
    allowed = ("False", "trust_remote_code", "self.trust_remote_code", "is_trusted")
    assert {place: value for place, value in places.items() if value not in allowed} == {}


def test_each_process_forbids_code():
    """All of them that set up their output also call it."""
    files = [{place.partition(":")[0] for place, _ in calls([name])} for name in ("guard_output", "guard_imports")]
    assert len(files[0]) == 4
    assert files[0] == files[1]


@pytest.mark.parametrize("is_forbidden", [True, False])
def test_new_process_loads_no_kernels_and_does_not_ask(tmp_path, is_forbidden):
    """Also if transformers is imported later."""
    (tmp_path / "kernels.py").write_text("print('CANARY')")
    call = "hydratune.config.import_guards.guard_imports()" if is_forbidden else ""
    code = f"""
        import importlib.util, sys
        sys.path.insert(0, {str(tmp_path)!r})
        import hydratune.config.import_guards
        {call}
        from transformers.dynamic_module_utils import resolve_trust_remote_code
        print(bool(importlib.util.find_spec("kernels")))
        try:
            import kernels
        except ImportError:
            print("no kernels")
        try:
            print(resolve_trust_remote_code(None, "x", has_local_code=False, has_remote_code=True))
        except ValueError:
            print("no code")
    """
    lines = [line.removeprefix(" " * 8) for line in code.splitlines()]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], input="y", capture_output=True, text=True, check=True
    )
    if is_forbidden:
        assert done.stdout.split("\n")[:3] == ["False", "no kernels", "no code"]
    else:  # positive control
        assert "CANARY" in done.stdout
        assert done.stdout.endswith("True\n")
