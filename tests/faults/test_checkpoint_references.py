"""No JSON file of a checkpoint makes transformers read or run anything outside the checkpoint."""

import json
import os
import shutil
from pathlib import Path

import pytest
import transformers

from hydratune.models import code_guard
from hydratune.utils import hub
from hydratune.utils.checkpoint_references import MAX_BYTES, foreign_files
from hydratune.utils.errors import ConfigError

FILES = [
    *("config.json", "config.4.0.0.json", "generation_config.json", "video_preprocessor_config.json"),
    *("adapter_config.json", "added_tokens.json", "chat_template.json", "anything.json"),
]
VALUES = [
    *("../x", "a/../../x", "..", "/etc/hostname", "/no/file", "~/x", "~user/x", "private.txt", "models/private"),
]
FIELDS = [
    {"fast_tokenizer_files": ["tokenizer.4.0.0.json"]},
    {"configuration_files": ["config.4.0.0.json"]},
    {"_configuration_file": "x.json"},
    {"gguf_file": "x.gguf"},
    {"repo_path": "me/x"},
    {"repo_path": "private", "class_info_file": "classes.json"},
    {"class_info_file": "a/classes.json"},
    {"cache_dir": "cache"},
    {"proxies": {"https": "example.org"}},
    {"token": "x"},
    {"use_auth_token": "x"},
    {"revision": "x"},
    {"subfolder": "x"},
    {"_commit_hash": "x"},
    {"audio_tokenizer_name_or_path": "me/x"},
    {"transformers_weights": "adapter_model.bin"},
    {"_attn_implementation": {"text_config": "me/evil"}},
    {"linear_implementation": "me/evil"},
]


@pytest.fixture
def folder(own_directory):
    """The directory of a checkpoint, and private files and directories next to it."""
    (own_directory / "private.txt").touch()
    (own_directory / "models" / "private").mkdir(parents=True)
    (own_directory / "theirs").mkdir()
    return own_directory / "theirs"


def references(folder, name, content):
    """Return the references of a checkpoint with one file."""
    (folder / name).write_text(json.dumps(content))
    return [*foreign_files(folder)]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("nest", [lambda v: {"x": v}, lambda v: [{"x": [v]}], lambda v: {"a": {"b": {"c": v}}}])
def test_value_that_leads_out_of_a_checkpoint_is_a_reference(folder, value, nest):
    """From its own folder and from the current directory, also if no such file exists yet."""
    assert len(references(folder, "config.json", nest(value))) == 1


@pytest.mark.parametrize("name", FILES)
def test_each_json_file_is_checked(folder, name):
    """Also files that only another file names."""
    assert len(references(folder, name, {"x": "../private.txt"})) == 1


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: next(iter(fields)))
@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_field_that_replaces_a_file_is_a_reference(folder, fields, name):
    """Wherever it occurs."""
    assert references(folder, name, fields)
    assert references(folder, name, {"nested": [fields]})


@pytest.mark.parametrize("key", ["vocab_file", "merges_file", "tokenizer_file", "gguf_file", "name_or_path", "token"])
def test_map_of_special_tokens_has_only_tokens(folder, key):
    """Transformers prefers its values to the files of the checkpoint."""
    assert references(folder, "special_tokens_map.json", {key: "vocab.txt"})


@pytest.mark.parametrize(("package", "is_reference"), [("kernels", True), ("flash_attn", False), (None, False)])
@pytest.mark.parametrize("value", ["flash_attention_2", "paged|flash_attention_2"])
def test_kernel_in_place_of_a_missing_package_is_a_reference(
    folder, own_directory, monkeypatch, value, package, is_reference
):
    """Transformers downloads it if `kernels` is installed; without that, it reports the missing package."""
    if package:
        (own_directory / "kernels").mkdir()
        (own_directory / package / "__init__.py").parent.mkdir(exist_ok=True)
        for path in (own_directory / "kernels", own_directory / package):
            (path / "__init__.py").touch()
    monkeypatch.syspath_prepend(own_directory)
    assert bool(references(folder, "config.json", {"_attn_implementation": value})) == is_reference
    assert bool([*code_guard.kernel(value)]) == is_reference


DATA = {
    "id2label": {"0": "../x", "1": "/etc/hostname"},
    "label2id": {"token": 0, "revision": 1, "../x": 2},
    "sep_token": "/",
    "extra_special_tokens": ["..", "/private.txt"],
    "added_tokens_decoder": {"0": {"content": "/"}},
    "chat_template": "/{{ messages }}",
    "image_token": {"__type": "AddedToken", "content": "../"},
    "_name_or_path": "/home/author/model",
    "_commit_hash": "0" * 40,
    "transformers_weights": "model.safetensors.index.json",
    "text": "first line\n../x",
    "proxies": None,
    "revision": None,
    "tesseract_config": "",
}


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_labels_tokens_and_templates_are_data(folder, name):
    """Whatever their text is."""
    assert references(folder, name, DATA) == []


def test_map_of_special_tokens_is_accepted(folder):
    """As transformers 4 writes it."""
    tokens = {"cls_token": "/", "mask_token": {"content": "..", "lstrip": True}, "additional_special_tokens": ["~"]}
    assert references(folder, "special_tokens_map.json", tokens) == []


def test_files_of_tokens_are_data(folder):
    """Tokens of a vocabulary may have the names of fields."""
    assert references(folder, "vocab.json", {"token": 1, "proxies": 2, "../x": 3}) == []
    assert references(folder, "tokenizer.json", {"model": {"merges": ["/ usr", "../"]}}) == []


VOCABULARY = {name: i for i, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<unk>",
                                                "<pad>", "<mask>", "<|endoftext|>", "<|startoftext|>", "../x", "/"])}  # fmt: skip
WORDS = {"vocab": VOCABULARY}
MERGES = {**WORDS, "merges": []}
PIECES = {"vocab": [(name, 0.0) for name in VOCABULARY]}
SAVED = [
    *(("BertTokenizer", WORDS), ("LayoutLMv2Tokenizer", WORDS), ("T5Tokenizer", PIECES), ("ByT5Tokenizer", {})),
    *(("XLMRobertaTokenizer", PIECES), ("GPT2Tokenizer", MERGES), ("CLIPTokenizer", MERGES), ("CanineTokenizer", {})),
    *(("RobertaTokenizer", MERGES), ("LlamaTokenizer", MERGES), ("WhisperTokenizer", MERGES)),
    *(("WhisperFeatureExtractor", {}), ("ViTImageProcessorPil", {}), ("CLIPImageProcessorPil", {})),
    *(("LayoutLMv2ImageProcessorPil", {}), ("EncoderDecoderConfig", {}), ("TimmWrapperConfig", {})),
]


@pytest.mark.parametrize(("name", "arguments"), SAVED)
def test_saved_files_of_transformers_are_accepted(folder, name, arguments):
    """Those of models that many users have."""
    getattr(transformers, name)(**arguments).save_pretrained(folder)
    assert [*foreign_files(folder)] == []


@pytest.mark.parametrize("fields", [{}, {"class_info_file": "coco_panoptic.json"}])
def test_saved_processor_of_oneformer_is_accepted(folder, fields):
    """It names a repository of its authors, whose file has the names of classes."""
    saved = {"repo_path": "shi-labs/oneformer_demo", "metadata": {"0": "/wall", "class_names": ["../x"]}, **fields}
    assert references(folder, "preprocessor_config.json", saved) == []


# --- what transformers would read ----------------------------------------------------------------------------


@pytest.fixture
def theirs(tiny_model, folder):
    """A checkpoint from someone else without a `tokenizer.json`, and a private vocabulary."""
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder.parent / "private.txt").write_text("\n".join([*words, "secret"]))
    (folder / "vocab.txt").write_text("\n".join([*words, "public"]))
    (folder / "tokenizer.json").rename(folder.parent / "tokenizer.of.mine")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return folder


def assert_refused(folder):
    """Assert that nothing of a checkpoint is loaded."""
    with pytest.raises(ConfigError) as caught, hub.loading_checkpoint("model", str(folder)):
        pytest.fail("it was loaded")
    assert [problem.key for problem in caught.value.problems] == ["model"]


def test_private_vocabulary_in_the_map_of_special_tokens(theirs):
    """Positive control: transformers reads any text file as the vocabulary."""
    hub.check_checkpoint("model", str(theirs))
    (theirs / "special_tokens_map.json").write_text(json.dumps({"vocab_file": str(theirs.parent / "private.txt")}))
    assert "secret" in transformers.AutoTokenizer.from_pretrained(theirs).get_vocab()
    assert_refused(theirs)


def test_private_tokenizer_behind_a_version(theirs):
    """Positive control: transformers joins the name to the folder of the checkpoint."""
    (theirs / "tokenizer.4.0.0.json").mkdir()
    name = "tokenizer.4.0.0.json/../../tokenizer.of.mine"
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", "fast_tokenizer_files": [name]}
    (theirs / "tokenizer_config.json").write_text(json.dumps(fields))
    (theirs / "vocab.txt").unlink()
    assert len(transformers.AutoTokenizer.from_pretrained(theirs)) > 5
    assert_refused(theirs)


def test_private_classes_of_an_image_processor(folder):
    """Positive control: transformers joins a directory and a file."""
    (folder.parent / "classes.json").write_text(json.dumps({"0": {"name": "secret", "isthing": 1}}))
    fields = {"image_processor_type": "OneFormerImageProcessor", "class_info_file": "classes.json"}
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**fields, "repo_path": str(folder.parent)}))
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    assert "secret" in str(processor.metadata)
    assert_refused(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "more/x"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: Path(path).symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_file_without_an_end_is_refused(folder, name, make):
    """Before it is read."""
    (folder / "more").mkdir()
    make(folder / name)
    assert_refused(folder)


@pytest.mark.parametrize("name", ["config.json", "adapter_config.json", "model.safetensors.index.json"])
def test_huge_file_is_refused(folder, name):
    """It would exhaust the memory, or hide its fields from the check."""
    with (folder / name).open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    assert_refused(folder)


@pytest.fixture
def cached(own_directory):
    """Return a checkpoint in the layout of the Hub's cache, whose files are links to `blobs`."""
    repository = own_directory / "models--me--x"
    (repository / "snapshots" / "c").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "0123").write_text("{}")
    (repository / "snapshots" / "c" / "config.json").symlink_to("../../blobs/0123")
    (own_directory / "private").mkdir()
    (own_directory / "private" / "0123").write_text("{}")
    return repository / "snapshots" / "c"


@pytest.mark.parametrize("way", ["blobs", "blob", "elsewhere", "other repository"])
def test_layout_of_the_cache_allows_no_other_file(cached, own_directory, way):
    """Someone else's archive can have this layout."""
    hub.check_checkpoint("model", str(cached))  # positive control
    blobs = cached.parents[1] / "blobs"
    if way == "blobs":
        shutil.rmtree(blobs)
        blobs.symlink_to(own_directory / "private")
    elif way == "blob":
        (blobs / "0123").unlink()
        (blobs / "0123").symlink_to(own_directory / "private" / "0123")
    elif way == "elsewhere":
        (cached / "vocab.txt").symlink_to("../../../private/0123")
    else:
        shutil.copytree(cached.parents[1], own_directory / "models--me--y", symlinks=True)
        (cached / "vocab.txt").symlink_to("../../../models--me--y/blobs/0123")
    assert_refused(cached)
