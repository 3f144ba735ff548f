"""Chat templates: convert the messages of a chat to tokens, and find the tokens of the assistant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydratune.data.columns import preview
from hydratune.tasks.chats import ChatError, Message
from hydratune.tasks.tokenize import IGNORED
from hydratune.utils.errors import KEY, ConfigError, Problem, one_line

# For tokenizers without their own template. An answer ends with the end token, where generation stops.
SIMPLE = (
    "{% if tools %}{{ '<|tools|>\\n' + (tools | tojson) + '\\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}{{ '<|tool_call|>' + (call['function'] | tojson) }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)

_OTHER_TEMPLATE = f"set {KEY}=simple, or to a template with {{% generation %}} around the answers"

MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")

Tools = Sequence[Any] | None


def check_chat(tokenizer: Any, messages: Sequence[Message], tools: Tools, answered: bool) -> None:
    """Raise ChatError if the template rejects a chat, or omits its tools or tool calls.

    Args:
        tokenizer: Tokenizer with a chat template.
        messages: Messages in the form of chat templates.
        tools: JSON schemas of the tools.
        answered: Whether the chat ends with an answer; if not, the template opens one.
    """

    def text(turns: Sequence[Message], offered: Tools) -> str:
        return str(
            tokenizer.apply_chat_template(
                list(turns), tools=offered, tokenize=False, add_generation_prompt=not answered
            )
        )

    try:
        full_text = text(messages, tools)
        without_calls = [{name: v for name, v in turn.items() if name != "tool_calls"} for turn in messages]
        loses_calls = without_calls != list(messages) and text(without_calls, tools) == full_text
        loses_tools = bool(tools) and text(messages, None) == full_text
        if answered and not MARKED.search(tokenizer.get_chat_template()):
            for turn in (i for i, message in enumerate(messages) if message["role"] == "assistant"):
                _opened(tokenizer, messages, turn, tools)  # `encode_chat` needs these beginnings of the chat
    except ConfigError as error:
        problem = error.problems[0]
        raise ChatError("messages", problem.message, hint="\n".join(problem.hints)) from error
    except Exception as error:  # a template can raise anything
        raise ChatError("messages", f"the chat template rejects the messages: {one_line(error, 200)}") from error
    if loses_calls:
        raise ChatError("messages", "the chat template ignores tool_calls", messages)
    if loses_tools:
        raise ChatError("tools", "the chat template ignores tools", tools)


def encode_chat(tokenizer: Any, messages: list[Message], tools: Tools) -> dict[str, list[int]]:
    """Return the token IDs of a chat, and labels that are ignored outside the assistant's turns."""
    if MARKED.search(tokenizer.get_chat_template()):
        options = {"return_dict": True, "return_assistant_tokens_mask": True, "tokenizer_kwargs": {"verbose": False}}
        encoded = apply_template(tokenizer, messages, tools, tokenize=True, **options)
        in_answer = encoded["assistant_masks"]
    else:
        text, answers = _render(tokenizer, messages, tools)
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        in_answer = [_is_inside(start, end, answers) for start, end in encoded["offset_mapping"]]
    if not any(in_answer):
        text = f"the chat template writes no answer of the assistant for {preview(messages)}"
        raise ConfigError(Problem("task.chat_template", text, _OTHER_TEMPLATE))
    ids = encoded["input_ids"]
    return {
        "input_ids": ids,
        "labels": [token_id if is_answer else IGNORED for token_id, is_answer in zip(ids, in_answer, strict=True)],
    }


def _is_inside(token_start: int, token_end: int, answers: list[tuple[int, int]]) -> bool:
    """Return whether a token belongs to an answer, also if it starts before the answer and has its first letters."""
    return any(token_start < end and (token_start >= start or token_end > start) for start, end in answers)


def _render(tokenizer: Any, messages: Sequence[Message], tools: Tools) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of a chat, and the character spans of the assistant's turns, including the ends of the turns."""
    text = apply_template(tokenizer, messages, tools, tokenize=False)
    answers = []
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        opened = _opened(tokenizer, messages, turn, tools)
        closed = apply_template(tokenizer, messages[: turn + 1], tools, tokenize=False)
        if not (text.startswith(closed) and closed.startswith(opened)):
            text = "the chat template changes earlier turns when a turn is added"
            raise ConfigError(Problem("task.chat_template", text, _OTHER_TEMPLATE))
        answers.append((len(opened), len(closed.rstrip())))
    return text, answers


def _opened(tokenizer: Any, messages: Sequence[Message], turn: int, tools: Tools) -> str:
    """Return the text of a chat up to the first character of one of its answers.

    Raises:
        ConfigError: If the chat begins with the answer, and the template does not show where a turn's text begins.
    """
    if turn:
        return str(apply_template(tokenizer, messages[:turn], tools, tokenize=False, add_generation_prompt=True))
    # An empty chat cannot be rendered. An answer starts with the text that a generation prompt adds to any question.
    question = [{"role": "user", "content": "?"}]
    prompt = apply_template(tokenizer, question, tools, tokenize=False)
    opening = apply_template(tokenizer, question, tools, tokenize=False, add_generation_prompt=True)[len(prompt) :]
    before, separator, _ = apply_template(tokenizer, messages[:1], tools, tokenize=False).partition(opening or "\0")
    if not separator:
        text = "the chat template does not show where the answer begins in a chat that begins with the assistant"
        hint = f"begin the chat with a message of the user\n{_OTHER_TEMPLATE}"
        raise ConfigError(Problem("task.chat_template", text, hint))
    return str(before + separator)


def apply_template(tokenizer: Any, turns: Sequence[Mapping[str, Any]], tools: Tools, **options: Any) -> Any:
    """Apply the chat template to some turns; raise ConfigError if it rejects them."""
    try:
        return tokenizer.apply_chat_template(list(turns), tools=tools, **options)
    except Exception as error:  # a template can raise anything
        text = f"the chat template rejects a chat: {one_line(error, 200)}"
        hint = f"check the order of the roles, or set {KEY}=simple"
        raise ConfigError(Problem("task.chat_template", text, hint)) from error
