"""References in a checkpoint's files to anything outside the checkpoint, which transformers would read or run."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydratune.utils import files
from hydratune.utils.errors import one_line
from hydratune.utils.secret_names import LABELS
from hydratune.utils.stored_files import read_regular

# Arguments of `from_pretrained`, which takes them among the fields. A proxy, for example, would receive the Hub token.
LOADING = (
    *("adapter_kwargs", "cache_dir", "commit_hash", "force_download", "from_auto", "gguf_file", "local_files_only"),
    *("mirror", "name_or_path", "pretrained_model_name_or_path", "proxies", "repo_type", "resume_download"),
    *("return_unused_kwargs", "revision", "state_dict", "subfolder", "token", "use_auth_token", "user_agent"),
)
MAX_BYTES = 64_000_000  # the largest tokenizers have 35 MB
REQUIRED_OBJECTS = (
    *("config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json"),
    *("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"),
)
# Files that contain tokens, or that only hydratune and Trainer read.
_DATA_FILES = ("manifest.json", "tekken.json", "tokenizer.json", "trainer_state.json", "training_args.json")
_SPECIAL_TOKENS = "special_tokens_map.json"
_ADAPTER = "adapter_config.json"

# Fields whose values are texts, not paths.
_DATA = (
    *LABELS,
    *("added_tokens_decoder", "chat_template", "content", "label_descriptions", "label_names", "metadata"),
    *("model_type", "stop_strings"),
)
_TOKEN = re.compile(r".+_tokens?")
# Fields that upstream ignores: many checkpoints have paths of their author there.
_IGNORED = ("_name_or_path", "name_or_path")
_IGNORED_FIELDS = (
    ("tokenizer_config.json", "special_tokens_map_file"),
    ("tokenizer_config.json", "tokenizer_file"),
    (_ADAPTER, "base_model_name_or_path"),  # documented: the base model may be in another place
)
# Fields that replace a file of the checkpoint, or with which timm unpickles a file, tesseract writes files, and MeCab
# reads them.
_REDIRECTIONS = (
    *(name for name in LOADING if name != "name_or_path"),
    *("audio_tokenizer_name_or_path", "checkpoint_path", "class_info_file", "configuration_file"),
    *("configuration_files", "fast_tokenizer_files", "mecab_option", "repo_path", "tesseract_config"),
    "transformers_weights",
)
# Values that `save_pretrained` writes into such fields.
_SAVED = {
    "class_info_file": re.compile(r"[\w-][\w.-]*\.json"),  # OneFormer, with the next one
    "commit_hash": re.compile(r"[0-9a-f]{40}"),
    "repo_path": re.compile("shi-labs/oneformer_demo"),
    "transformers_weights": re.compile(r"[\w-][\w.-]*\.safetensors(\.index\.json)?"),
}

_FLASH_PACKAGES = {
    "flash_attention_2": "flash_attn",
    "flash_attention_3": "flash_attn_interface",
    "flash_attention_4": "flash_attn.cute",
}


def foreign_files(folder: Path) -> Iterator[str]:
    """Yield each reference in a checkpoint's JSON files to something outside the checkpoint.

    These are shards of weights and other files outside its directory, other names for its files, arguments of other
    programs, and kernels from the Hub. Folders inside the checkpoint count, since a tokenizer may load others there.
    """
    for path in sorted(folder.rglob("*.json")):
        if path.name in _DATA_FILES or not (path.parent == folder or _is_read(path.name)):
            continue
        try:
            content = _parse(path)
        except (OSError, RecursionError) as error:
            yield f"{path.relative_to(folder)}: {one_line(error)}"
        except ValueError:  # transformers cannot read it either
            pass
        else:
            check = _foreign_shards if path.name.endswith(".index.json") else _foreign_fields
            place = str(path.relative_to(folder)).removesuffix(path.name)
            yield from (f"{place}{text}" for text in check(path.parent, path.name, content))


def _is_read(name: str) -> bool:
    """Return whether transformers reads a file of this name in a folder inside a checkpoint."""
    return name == _SPECIAL_TOKENS or name.endswith(("config.json", ".index.json"))


def links_outside(folder: Path) -> Iterator[str]:
    """Yield each link that leads out of a checkpoint's directory, and each pipe or device.

    The directory may be a repository in the Hub's cache, whose files are links to `blobs` next to `snapshots`.
    """
    root = folder.resolve()
    is_cached = root.parent.name == "snapshots" and root.parents[1].name.startswith("models--")
    blobs = root.parents[1] / "blobs" if is_cached else root
    links = {*files.links_outside(folder, *(() if blobs.is_symlink() else [blobs]))}
    for path in sorted(folder.rglob("*")):
        if path in links:
            yield f"{path.relative_to(folder)}: a link to {os.path.realpath(path)!r}"
        elif path.exists() and not (path.is_file() or path.is_dir()):
            yield f"{path.relative_to(folder)}: a pipe or a device"


def is_hub_kernel(implementation: str) -> bool:
    """Return whether transformers would download code to compute attention, e.g. in place of a missing package."""
    package = _FLASH_PACKAGES.get(implementation.rpartition("|")[2])  # `paged|flash_attention_2`
    return "/" in implementation or (package is not None and _is_installed("kernels") and not _is_installed(package))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # the package of a submodule is missing
        return False


def is_malformed(path: Path) -> bool:
    """Return whether a file exists and is not a JSON object, on which transformers raises errors of many kinds."""
    try:
        return not isinstance(_parse(path), dict)
    except FileNotFoundError:  # an optional file
        return False
    except (OSError, ValueError, RecursionError):
        return True


def _foreign_shards(folder: Path, file: str, content: Any) -> Iterator[str]:
    shards = content.get("weight_map") if isinstance(content, dict) else None
    for name in sorted({str(shard) for shard in shards.values()} if isinstance(shards, dict) else ()):
        if not _is_below(folder, folder / name):
            yield f"{file}: {name!r}"


def _foreign_fields(folder: Path, file: str, content: Any) -> Iterator[str]:
    if file == _SPECIAL_TOKENS and isinstance(content, dict):
        yield from (f"{file}: {key}" for key in content if not _TOKEN.fullmatch(key))
    for keys, value in _texts(content):
        if _is_foreign(folder, file, keys, value):
            yield f"{file}: {'.'.join(keys)}: {value!r}"


def _is_foreign(folder: Path, file: str, keys: tuple[str, ...], value: str) -> bool:
    """Return whether a text in a JSON file, below the fields `keys`, leads out of the checkpoint."""
    names = [key.lstrip("_") for key in keys]
    if any(name.endswith("implementation") for name in names) and is_hub_kernel(value):
        return True
    for name in set(names) & set(_REDIRECTIONS):
        is_saved = name in _SAVED and bool(_SAVED[name].fullmatch(value))
        if value and not is_saved and (file, name) != (_ADAPTER, "revision"):
            return True
    is_ignored = keys[-1:] and (keys[-1] in _IGNORED or (len(keys) == 1 and (file, keys[0]) in _IGNORED_FIELDS))
    return not is_ignored and _leads_outside(folder, value)


def _leads_outside(folder: Path, text: str) -> bool:
    """Return whether a text is a path out of a folder, both from there and from the current directory."""
    if "\n" in text or len(text) > 4096:
        return False
    if text.startswith(("/", "~")) or ".." in text.split("/"):
        return True
    path = Path(text)
    try:
        exists = path.is_file() or ("/" in text and path.is_dir())
    except (OSError, ValueError):  # name too long or with invalid characters
        return False
    return exists and not _is_below(folder, path)


def _texts(content: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the strings of JSON that may be paths, each with the names of its fields, from the outermost."""
    nodes: list[tuple[tuple[str, ...], Any]] = [((), content)]
    while nodes:
        keys, node = nodes.pop()
        if isinstance(node, dict):
            nodes += [((*keys, key), value) for key, value in node.items() if not _is_data(key)]
        elif isinstance(node, list):
            nodes += [(keys, value) for value in node]
        elif isinstance(node, str):
            yield keys, node


def _is_data(key: str) -> bool:
    return key in _DATA or (bool(_TOKEN.fullmatch(key)) and key.lstrip("_") not in _REDIRECTIONS)


def _parse(path: Path) -> Any:
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_BYTES // 1_000_000} MB", str(path))
    return json.loads(read_regular(path).decode("utf-8"))


def _is_below(folder: Path, path: Path) -> bool:
    """Return whether a path, by its text, is below a folder, because files of the Hub's cache are links."""
    return ".." not in path.parts and path.absolute().is_relative_to(folder.absolute())
