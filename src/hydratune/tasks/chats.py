"""Chats in common storage formats, converted to the messages that chat templates take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydratune.data.columns import COLUMN, preview
from hydratune.utils.json_text import parse_json

Message = dict[str, Any]

ROLES = ("system", "developer", "user", "assistant", "tool")
# Columns of each form: OpenAI's messages, ShareGPT's conversations, pairs, Alpaca's instructions. The last column of a
# form holds the answers; rows to predict for need not have it.
FORMS: tuple[tuple[str, ...], ...] = (
    ("messages",),
    ("conversations",),
    ("prompt", "completion"),
    ("instruction", "output"),
)
_SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
} | {role: role for role in ROLES}


_NONE = object()  # an error that shows no value


class ChatError(ValueError):
    """Error for a chat that cannot be converted.

    Attributes:
        column: Column of the task that is invalid.
        text: What is wrong, with `COLUMN` for the name of the column.
        value: The shortened `repr` of the invalid value; empty if there is none.
        hint: How to fix it.
    """

    def __init__(self, column: str, text: str, value: Any = _NONE, hint: str = "") -> None:
        self.column, self.hint = column, hint
        self.value = "" if value is _NONE else preview(value)
        self.text = text if value is _NONE else f"{text}: {self.value}"
        super().__init__(self.text.replace(COLUMN, repr(column)))


def complete_forms(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the forms whose columns are all among `names`."""
    return [form for form in FORMS if {*form} <= {*names}]


def messages_of(row: Mapping[str, Any]) -> list[Message]:
    """Return the messages of a row, each with `role` and `content`, and `tool_calls` if it has any.

    Args:
        row: Columns of one of the `FORMS`; also `system`, `history`, and for an instruction `input`.

    Raises:
        ChatError: If a message cannot be converted without loss.
    """
    column = next((name for name in ("messages", "conversations") if row.get(name) is not None), None)
    messages = [_message(message, column) for message in _parsed_list(row[column], column)] if column else _pair(row)
    system = row.get("system")
    if system is not None and not isinstance(system, str):
        raise ChatError("system", f"{COLUMN} is not a text", system)
    if system and not (messages and messages[0]["role"] == "system"):
        messages = [{"role": "system", "content": system}, *messages]
    return messages


def tools_of(row: Mapping[str, Any]) -> list[Any] | None:
    """Return the tools that a row offers, as JSON schemas; None if it has none.

    Raises:
        ChatError: If they are not a list of objects.
    """
    tools = row.get("tools")
    if tools is None or tools == "" or tools == []:
        return None
    schemas = [parse_json(tool) if isinstance(tool, str) else tool for tool in _parsed_list(tools, "tools")]
    if not all(isinstance(tool, dict) for tool in schemas):
        raise ChatError("tools", f"{COLUMN} is not a list of JSON schemas", tools)
    return [_without_nulls(tool) for tool in schemas]


# --- forms -----------------------------------------------------------------------------------------------


def _pair(row: Mapping[str, Any]) -> list[Message]:
    """Return a question, and an answer if there is one, after the earlier turns of Alpaca's `history`."""
    question_column, answer_column = (
        ("prompt", "completion") if row.get("prompt") is not None else ("instruction", "output")
    )
    if isinstance(row.get("prompt"), list):  # of messages, as TRL writes chats
        return [
            _message(message, name)
            for name in (question_column, answer_column)
            for message in _parsed_list(row.get(name) or [], name)
        ]
    texts = {name: row.get(name) for name in (question_column, answer_column)}
    context = row.get("input") if question_column == "instruction" else None
    for name, text in {**texts, "input": context}.items():
        if text is not None and not isinstance(text, str):
            raise ChatError(name, f"{COLUMN} is not a text", text)
    for name in (question_column, *([answer_column] if texts[answer_column] is not None else [])):
        if not (texts[name] or "").strip():
            raise ChatError(name, f"empty {COLUMN}")
    question = f"{texts[question_column]}\n\n{context}" if context else str(texts[question_column])
    answer = [] if texts[answer_column] is None else [{"role": "assistant", "content": texts[answer_column]}]
    return [*_history(row), {"role": "user", "content": question}, *answer]


def _history(row: Mapping[str, Any]) -> list[Message]:
    """Return the earlier turns of a row: pairs of a question and an answer."""
    pairs = _parsed_list(row.get("history") or [], "history")
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise ChatError("history", f"{COLUMN} is not a list of question-answer pairs", pair)
    return [
        {"role": role, "content": text}
        for pair in pairs
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]


def _parsed_list(value: Any, column: str) -> list[Any]:
    """Return a list, which may be stored as JSON text."""
    try:
        parsed = parse_json(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ChatError(column, f"{COLUMN} is neither a list nor valid JSON", value) from error
    if not isinstance(parsed, list):
        raise ChatError(column, f"{COLUMN} is not a list", value)
    return parsed


def _message(message: Any, column: str) -> Message:
    """Return one message in the form of chat templates, without keys that are null."""
    if not isinstance(message, dict):
        raise ChatError(column, "a message is not an object with role and content", message)
    fields = {name: value for name, value in message.items() if value is not None}
    if "from" in fields and "role" not in fields:
        fields = _from_sharegpt(fields, column)
    if fields.get("role") not in ROLES:
        raise ChatError(column, f"the role of a message is not one of {', '.join(ROLES)}", message)
    if fields.pop("weight", 1) not in (1, True):
        raise ChatError(column, "a message has a weight, which is not supported", message)
    if fields.get("function_call"):
        raise ChatError(column, "a message has a function_call, which tool_calls replaced", message)
    calls = [_tool_call(call, column) for call in _parsed_list(fields.pop("tool_calls", []), column)]
    content = _text(fields.get("content", ""), column)
    if not content.strip() and not calls and fields["role"] in ("user", "assistant"):
        raise ChatError(column, "empty message", message)
    return {**fields, "content": content, **({"tool_calls": calls} if calls else {})}


def _from_sharegpt(message: Mapping[str, Any], column: str) -> Message:
    """Convert a message of ShareGPT's form, whose keys are `from` and `value`."""
    role, value = _SHAREGPT_ROLES.get(str(message["from"]), ""), message.get("value", "")
    other_fields = {name: item for name, item in message.items() if name not in ("from", "value")}
    if message["from"] == "function_call":
        call = value if isinstance(value, dict) else _json_object(value, column)
        return {**other_fields, "role": role, "tool_calls": [{"function": call}]}
    return {**other_fields, "role": role, "content": value}


def _text(content: Any, column: str) -> str:
    """Return the text of a message; text parts are joined, and other parts raise ChatError."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(texts) != len(content) or not all(isinstance(text, str) for text in texts):
            raise ChatError(column, "the content of a message has parts other than text", content)
        return "".join(map(str, texts))
    if not isinstance(content, str):
        raise ChatError(column, "the content of a message is not a text", content)
    return content


def _tool_call(call: Any, column: str) -> dict[str, Any]:
    """Return a tool call with its arguments as an object, as templates expect them."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise ChatError(column, "a tool call has no function with a name", call)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _json_object(arguments or "{}", column)
    elif isinstance(arguments, dict):
        arguments = _without_nulls(arguments)
    return {**_without_nulls(call), "type": "function", "function": {**function, "arguments": arguments or {}}}


def _json_object(text: Any, column: str) -> dict[str, Any]:
    try:
        parsed = parse_json(text)
    except (TypeError, ValueError) as error:
        raise ChatError(column, "the arguments of a tool call are not valid JSON", text) from error
    if not isinstance(parsed, dict):
        raise ChatError(column, "the arguments of a tool call are not a JSON object", text)
    return parsed


def _without_nulls(value: Any) -> Any:
    """Return a value without null keys, since Arrow gives each object in a column the keys of all others."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
