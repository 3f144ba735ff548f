"""Inference of the task and of its columns from a data file, with the reasons; ambiguous data is an error.

Nothing is guessed: a column is chosen if it has the task's own name for it, or if it is the only one of its kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydratune.tasks.chats import complete_forms
from hydratune.utils.errors import MOST_OPTIONS, ConfigError, Problem, setting

if TYPE_CHECKING:
    from datasets import Dataset

_LOOKED_AT = 5000  # rows
_MOST_LABELS = 200  # different values of a column of labels
_LABEL_WORDS = 5  # maximum words of a label
_SHOWN = 5  # labels in a report
# Pairs of columns that are the two texts of one row, by their usual names.
_PAIRS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("query", "passage"),
    ("question", "sentence"),
)
_TEXT, _CATEGORY, _NUMBER, _LIST, _OTHER = "text", "category", "number", "list", "other"
_SEQUENCE = "sequence_classification"
_WITH_LABEL = {_SEQUENCE: _CATEGORY, "regression": _NUMBER, "multi_label_classification": _LIST}


@dataclass(frozen=True)
class Profile:
    """Summary of the values of a column.

    Args:
        name: Name of the column.
        kind: `text`, `category` (few different values), `number`, `list` (of texts), or `other`, e.g. an ID.
        values: The different values, if they are few; sorted.
        words: Mean number of words of a text, or of elements of a list.
        is_whole: Whether all values are integers or booleans.
    """

    name: str
    kind: str
    values: tuple[Any, ...] = ()
    words: float = 0
    is_whole: bool = False

    def __str__(self) -> str:
        if self.kind == _CATEGORY:
            shown = ", ".join(map(str, self.values[:_SHOWN])) + (", ..." if len(self.values) > _SHOWN else "")
            return f"{self.name} ({len(self.values)} values: {shown})"
        if self.kind in (_TEXT, _LIST):
            unit = "words" if self.kind == _TEXT else "elements"
            return f"{self.name} ({self.words:.0f} {unit} on average)"
        return f"{self.name} (numbers)" if self.kind == _NUMBER else self.name


@dataclass(frozen=True)
class Inference:
    """Task of a data file, and the columns that it reads.

    Args:
        task: Name of the task.
        columns: The task's name of a column -> the data's name, or names.
        reason: Reason for the task.
        profiles: Column of the data -> summary.
        settings: Further settings that follow, e.g. `dataset.labels`.
    """

    task: str
    columns: Mapping[str, str | list[str]]
    reason: str
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unused(self) -> list[str]:
        """Return the columns of the data that the task does not read."""
        used = {name for value in self.columns.values() for name in ([value] if isinstance(value, str) else value)}
        return [name for name in self.profiles if name not in used]


def infer(rows: Dataset, place: str, task: str | None, columns: Mapping[str, str | list[str]]) -> Inference:
    """Infer the task and its columns.

    Args:
        rows: Training rows, with all columns of the data.
        place: Name of the data for messages.
        task: Task that the user has chosen; None to infer it.
        columns: Columns that the user has chosen, as in `dataset.columns`.

    Raises:
        ConfigError: If several tasks or columns are possible, or none.
    """
    profiles = {name: _profile(rows, name) for name in rows.column_names}
    search = _Search(place, profiles, task, columns)
    inference = next(search.by_names(), None) or search.by_kinds()
    return Inference(inference.task, {**inference.columns, **columns}, inference.reason, profiles, inference.settings)


def _profile(rows: Dataset, name: str) -> Profile:
    """Summarize a column from its first rows."""
    values = [value for value in rows.select(range(min(len(rows), _LOOKED_AT)))[name] if value not in (None, "")]
    if not values:
        return Profile(name, _OTHER)
    if all(isinstance(value, list) for value in values):
        is_of_texts = all(isinstance(item, str | int) for value in values for item in value)
        elements = tuple(sorted({str(item) for value in values for item in value})) if is_of_texts else ()
        mean = sum(map(len, values)) / len(values)
        return Profile(name, _LIST if is_of_texts else _OTHER, elements, mean)
    if not all(isinstance(value, str | bool | int | float) for value in values):
        return Profile(name, _OTHER)
    distinct = sorted({*values}, key=lambda value: (str(type(value)), value))
    is_few = 2 <= len(distinct) <= min(_MOST_LABELS, len(values) / 2)
    if all(isinstance(value, str) for value in values):
        words = sum(len(value.split()) for value in values) / len(values)
        is_short = all(len(value.split()) <= _LABEL_WORDS for value in distinct)
        if is_few and is_short:
            return Profile(name, _CATEGORY, tuple(distinct), words)
        return Profile(name, _TEXT if words > 1 else _OTHER, (), words)  # an ID is one word
    is_whole = all(isinstance(value, int) for value in values)
    if is_whole and is_few:
        return Profile(name, _CATEGORY, tuple(distinct), is_whole=True)
    is_id = is_whole and len(distinct) == len(values)
    return Profile(name, _OTHER if is_id else _NUMBER, (), is_whole=is_whole)


@dataclass(frozen=True)
class _Search:
    """Search for a task; see `infer`."""

    place: str
    profiles: Mapping[str, Profile]
    task: str | None
    given: Mapping[str, str | list[str]]

    def by_names(self) -> Iterator[Inference]:
        """Yield the task whose columns have names that no other task has, or that the user has chosen completely."""
        names = {*self.profiles}
        for form in complete_forms([*names]):
            if self.task in (None, "supervised_fine_tuning"):
                chat = {name: name for name in form}
                yield Inference("supervised_fine_tuning", chat, f"it has the columns of chats: {', '.join(form)}")
        for task, required in {
            "question_answering": ("question", "context", "answers"),
            "multiple_choice": ("text", "choices", "label"),
            "image_classification": ("image", "label"),
            "seq2seq": ("source", "target"),
        }.items():
            if {*required} <= names | {*self.given} and self.task in (None, task):
                yield Inference(task, {name: name for name in required}, f"it has the columns {', '.join(required)}")
        if self.task in (None, "token_classification") and (columns := self._tokens()):
            yield Inference("token_classification", columns, "each row is a list of tokens and a list of labels")

    def _tokens(self) -> dict[str, str | list[str]]:
        """Return the columns of tokens and of one label for each token; empty without such columns."""
        lists = [profile for profile in self.profiles.values() if profile.kind == _LIST]
        tokens = self.given.get("tokens") or next((p.name for p in lists if p.name in ("tokens", "words")), None)
        if tokens is None:
            return {}
        others = [profile for profile in lists if profile.name != tokens]
        return {"tokens": tokens, "labels": self._one("labels", others, "labels of the tokens")}

    def by_kinds(self) -> Inference:
        """Return a task over one or two texts, with or without a target."""
        task = self.task
        if task in ("causal_lm", "masked_lm"):
            return Inference(task, {"text": self._text([])}, "it was chosen")
        if task == "seq2seq":
            return Inference(task, self._source_and_target(), "it was chosen")
        if task is not None and task not in _WITH_LABEL:
            text = f"the columns of {task} cannot be inferred from {self.place}: {', '.join(self.profiles)}"
            hint = "set its columns with dataset.columns.NAME=COLUMN; `hydratune configs show` lists them"
            raise ConfigError(Problem("dataset.columns", text, hint.replace("show`", f"show task/{task}`")))
        label = self._label()
        return self._with_label(label) if label else self._without_label()

    def _label(self) -> Profile | None:
        """Return the column of labels; None if no column can hold them."""
        role = "labels" if self.task == "multi_label_classification" else "label"
        chosen = self.given.get(role) or self.given.get("label") or self.given.get("labels")
        if isinstance(chosen, list):
            return Profile(", ".join(chosen), _LIST)
        if chosen is not None:
            return self._named(role, chosen)
        fitting = [profile for profile in self.profiles.values() if self._fits(profile)]
        if not fitting and self.task is None:
            fitting = [profile for profile in self.profiles.values() if profile.kind == _NUMBER]
        exact = [profile for profile in fitting if profile.name == role]
        if not fitting:
            return None
        return exact[0] if exact else self.profiles[self._one(role, fitting, "labels")]

    def _fits(self, profile: Profile) -> bool:
        """Return whether a column can hold the labels of the task, or of a classification if no task is chosen."""
        if self.task == "regression":
            return profile.kind == _NUMBER or profile.is_whole
        return profile.kind in ((_WITH_LABEL[self.task],) if self.task else (_CATEGORY, _LIST))

    def _with_label(self, label: Profile) -> Inference:
        by_kind = {_CATEGORY: _SEQUENCE, _NUMBER: "regression", _LIST: "multi_label_classification"}
        if self.task is None and label.kind not in by_kind:
            text = f"{label.name!r} of {self.place} has too many distinct values for labels, and they are not numbers"
            raise ConfigError(
                Problem("dataset.columns.label", text, "set task=NAME; `hydratune configs task` lists them")
            )
        task = self.task or by_kind[label.kind]
        reason = "it was chosen" if self.task else f"the labels are in column {label}"
        if not self.task and label.is_whole and label.kind == _CATEGORY and len(label.values) > 2:
            reason += "; for numbers on a scale, add task=regression"
        role = "labels" if task == "multi_label_classification" else "label"
        return Inference(task, {**self._texts(label), role: self.given.get(role, label.name)}, reason)

    def _texts(self, label: Profile) -> dict[str, str | list[str]]:
        """Return the column of the text, or the columns of a pair of texts."""
        for first, second in _PAIRS:
            if {first, second} <= {*self.profiles} - {label.name} and "text" not in self.given:
                return {"text": first, "text_pair": second}
        return {"text": self._text([label.name])}

    def _text(self, others: Sequence[str]) -> str | list[str]:
        if "text" in self.given:
            return self.given["text"]
        texts = [p for p in self.profiles.values() if p.kind == _TEXT and p.name not in (*others, *self._pair())]
        if "text" in self.profiles and "text" not in others:
            return "text"
        return self._one("text", texts, "texts")

    def _pair(self) -> list[str]:
        pair = self.given.get("text_pair")
        return [pair] if isinstance(pair, str) else pair or []

    def _source_and_target(self) -> dict[str, str | list[str]]:
        texts = [profile for profile in self.profiles.values() if profile.kind == _TEXT]
        roles = {}
        for role in ("source", "target"):
            free = [profile for profile in texts if profile.name not in self.given.values()]
            roles[role] = self.given.get(role) or self._one(role, free, f"{role} texts")
        return roles

    def _without_label(self) -> Inference:
        """Raise ConfigError that lists the tasks for texts without labels."""
        texts = [profile.name for profile in self.profiles.values() if profile.kind == _TEXT or profile.name == "text"]
        if not texts:
            found = ", ".join(map(str, self.profiles.values()))
            text = f"no task can be inferred from the columns of {self.place}: {found}"
            hint = "set task=NAME and dataset.columns.NAME=COLUMN; `hydratune configs task` lists the tasks"
            raise ConfigError(Problem("task", text, hint))
        hints = ["set task=causal_lm to train a language model", "set task=masked_lm to train an encoder"]
        if len(texts) > 1:
            columns = "dataset.columns.source=COLUMN dataset.columns.target=COLUMN"
            hints.append(f"set task=seq2seq {columns} to generate one text from the other")
        names = ", ".join(map(repr, texts))
        text = f"{self.place} has text ({names}) but no label column, so several tasks are possible"
        raise ConfigError(Problem("task", text, "\n".join(hints)))

    def _named(self, role: str, name: str | list[str]) -> Profile:
        if str(name) not in self.profiles:
            text = f"{self.place} has no column {name!r}"
            hint = f"available columns: {', '.join(map(repr, self.profiles))}"
            raise ConfigError(Problem(f"dataset.columns.{role}", text, hint))
        return self.profiles[str(name)]

    def _one(self, role: str, candidates: Sequence[Profile], what: str) -> str:
        """Return the column for a role if there is one candidate; raise ConfigError with all of them otherwise."""
        if role in self.given:
            return self._named(role, self.given[role]).name
        if len(candidates) == 1:
            return candidates[0].name
        key = f"dataset.columns.{role}"
        if not candidates:
            text = f"no column of {self.place} could be the {what}: {', '.join(map(str, self.profiles.values()))}"
            raise ConfigError(Problem(key, text, f"set {key}=COLUMN"))
        text = f"several columns of {self.place} could be the {what}: {', '.join(map(str, candidates))}"
        hints = [f"set {setting(key, profile.name)}" for profile in candidates[:MOST_OPTIONS]]
        raise ConfigError(Problem(key, text, "\n".join(hints)))
