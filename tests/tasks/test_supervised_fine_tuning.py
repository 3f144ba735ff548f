"""Chats: loss on answers alone, long examples, templates."""

import math

import pytest
import torch
from datasets import Dataset, DatasetDict

from conftest import looked_at_every, write_rows
from hydratune.models.from_config import byte_tokenizer
from hydratune.tasks.supervised_fine_tuning import SupervisedFineTuning
from hydratune.utils.errors import ConfigError

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi ☕?"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Bye."},
    {"role": "assistant", "content": "So long!"},
]


def prepare(rows, max_length=None, **options):
    """Encoded chats, and what was said of them."""
    task = SupervisedFineTuning(**{"chat_template": "simple", **options})
    return task.prepare(
        DatasetDict(train=Dataset.from_list(rows, on_mixed_types="use_json")), byte_tokenizer(), max_length, None
    )


def learned(row):
    """The text whose tokens count."""
    return byte_tokenizer().decode([label for label in row["labels"] if label != -100])


@pytest.mark.parametrize(
    ("template", "expected"),
    [("simple", "Hello.<|eos|>So long!<|eos|>"), (CHATML, "Hello.<|im_end|>So long!<|im_end|>")],
)
def test_only_answers_count(template, expected):
    """Every turn of the assistant, with the end of the turn, and nothing else; labels are the tokens themselves."""
    row = prepare([{"messages": CHAT}], chat_template=template).splits["train"][0]
    assert learned(row) == expected
    assert all(label in (-100, token) for label, token in zip(row["labels"], row["input_ids"], strict=True))


MARKED = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{%- generation -%}"
    "{{ '<think></think>' if loop.last }}{{ m.content }}<|eos|>{%- endgeneration -%}"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_a_template_may_mark_its_answers():
    """What it marks counts, though it writes the last turn in another way than earlier ones."""
    row = prepare([{"messages": CHAT}], chat_template=MARKED).splits["train"][0]
    assert learned(row) == "Hello.<|eos|><think></think>So long!<|eos|>"


def test_an_answer_does_not_lose_its_first_letters():
    """A token that begins before the answer, with a space of the template, counts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = ["<e>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "Ġy"]
    pairs = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(vocabulary)}, merges=[("Ġ", "y")]))
    pairs.pre_tokenizer, pairs.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pairs, eos_token="<e>", pad_token="<e>")
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
        "\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    rows = DatasetDict(train=Dataset.from_list([{"prompt": "x", "completion": "yes"}]))
    row = SupervisedFineTuning(chat_template=template).prepare(rows, tokenizer, None, None).splits["train"][0]
    assert tokenizer.decode([label for label in row["labels"] if label != -100]) == " yes<e>"


def test_prompts_and_completions():
    """A pair of texts is a chat of two turns."""
    row = prepare([{"prompt": "Hi?", "completion": "Hello."}]).splits["train"][0]
    assert learned(row) == "Hello.<|eos|>"
    assert byte_tokenizer().decode(row["input_ids"]) == "<|user|>\nHi?\n<|assistant|>\nHello.<|eos|>\n"


LONG = [{"prompt": "p" * size, "completion": "answer"} for size in (5, 40, 200)]


@pytest.mark.parametrize(
    ("excess_length", "kept", "said"),
    [
        ("drop", 1, "2 of 3 examples of train are over 60 tokens: 2 dropped"),
        ("truncate", 1, "2 of 3 examples of train are over 60 tokens: 2 dropped, 0 truncated"),
    ],
)
def test_long_examples_are_counted(excess_length, kept, said):
    """None is lost silently; one whose whole answer would be cut away is dropped."""
    data = prepare(LONG, 60, excess_length=excess_length)
    assert (len(data.splits["train"]), data.notes) == (kept, [said])


def test_long_examples_are_cut():
    """`truncate` keeps what of the answer fits."""
    data = prepare(LONG[:2], 70, excess_length="truncate")
    assert list(map(len, data.splits["train"]["input_ids"])) == [37, 70]
    assert learned(data.splits["train"][1]) == "answer"


def test_long_examples_may_end_the_run():
    """`error` says how many there are."""
    with pytest.raises(ConfigError, match=r"\b2 of 3 examples of train are over 60 tokens") as caught:
        prepare(LONG, 60, excess_length="error")
    assert [problem.key for problem in caught.value.problems] == ["task.excess_length"]


def test_a_tokenizer_without_a_template():
    """It is told, with the way out."""
    with pytest.raises(ConfigError) as caught:
        prepare(LONG, chat_template=None)
    (problem,) = caught.value.problems
    assert problem.key == "task.chat_template"
    assert "task.chat_template=simple" in problem.hints[0]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ messages[-1]['content'] }}", "earlier turns"),
        ("{{ raise_exception('roles must alternate') }}", ": roles must alternate"),
        (
            "{% for m in messages %}{{ m.content }}{% if false %}{% generation %}{% endgeneration %}{% endif %}{% endfor %}",
            "no answer",
        ),
    ],
)
def test_templates_that_do_not_do(template, message):
    """A template that hides turns, or refuses them, is told."""
    with pytest.raises(ConfigError, match=message) as caught:
        prepare([{"messages": CHAT}], chat_template=template)
    (problem,) = caught.value.problems
    assert problem.key == "task.chat_template"
    assert "task.chat_template=simple" in problem.hints[0]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (CHAT[:2], "assistant"),
        ([{"role": "robot", "content": "x"}], "'robot'"),
        ([{"role": "user", "content": None}], "empty"),
        ([*CHAT[:4], {"role": "assistant", "content": " "}], "empty"),
        ([], "assistant"),
    ],
)
def test_bad_chats(messages, message):
    """Chats that nothing can be learned from are bad rows."""
    rows = DatasetDict(train=Dataset.from_list([{"messages": CHAT}, {"messages": messages}]))
    (bad,) = SupervisedFineTuning().bad_rows(rows, None)
    assert bad.row == 1
    assert message in bad.text


def test_chats_without_a_system_prompt():
    """Many data sets have an empty one."""
    rows = DatasetDict(train=Dataset.from_list([{"messages": [{"role": "system", "content": ""}, *CHAT[1:]]}]))
    assert not list(SupervisedFineTuning().bad_rows(rows, None))


CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
CALLING = [
    {"role": "user", "content": "Sun?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "1", "content": "yes"},
    {"role": "assistant", "content": "Yes."},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]


def bad_rows(rows, template="simple"):
    """The bad rows of chats, tried with a template."""
    task = SupervisedFineTuning(chat_template=template)
    task.check_processor(byte_tokenizer())
    return list(task.bad_rows(DatasetDict(train=Dataset.from_list(rows, on_mixed_types="use_json")), None))


def test_tool_calls_are_learned():
    """OpenAI's form, whose content is null and whose arguments are JSON text: the call is part of the answer."""
    row = {"messages": CALLING, "tools": TOOLS}
    assert not bad_rows([row])
    encoded = prepare([row]).splits["train"][0]
    call = '<|tool_call|>{"name": "weather", "arguments": {"city": "Rome"}}<|eos|>'
    assert learned(encoded) == f"{call}Yes.<|eos|>"
    assert '"name": "weather", "parameters"' in byte_tokenizer().decode(encoded["input_ids"])


def test_tools_may_be_json_text():
    """Data sets store schemas as text, since they have no common type."""
    import json

    row = {"messages": CALLING, "tools": json.dumps(TOOLS)}
    assert prepare([row]).splits["train"][0] == prepare([{"messages": CALLING, "tools": TOOLS}]).splits["train"][0]


@pytest.mark.parametrize(
    ("row", "column"), [({"messages": CALLING}, "messages"), ({"messages": CHAT, "tools": TOOLS}, "tools")]
)
def test_template_without_tools_rejects_the_row(row, column):
    """A template that leaves out calls or tools would teach another chat."""
    plain = {"messages": CHAT} if column == "messages" else {"messages": CHAT, "tools": None}
    (bad,) = bad_rows([plain, row], CHATML)
    assert (bad.row, bad.column) == (1, column)


STRICT = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('must start with user') }}{% endif %}" + CHATML


def test_chat_that_the_template_refuses_is_a_bad_row():
    """It is one row of many: known by its number, and dropped if that is asked for."""
    (bad,) = bad_rows([{"messages": CHAT[1:]}, {"messages": CHAT[2:]}], STRICT)
    assert (bad.row, bad.column) == (1, "messages")
    assert "must start with user" in bad.text


GREETING = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Hi"}]


def test_chat_may_begin_with_the_assistant():
    """Its first turn is learned like others, without what opens it."""
    rows = [{"messages": [*GREETING, {"role": "assistant", "content": "Bye."}]}]
    assert not bad_rows(rows)
    encoded = prepare(rows).splits["train"][0]
    learned = [token for token, label in zip(encoded["input_ids"], encoded["labels"], strict=True) if label != -100]
    assert byte_tokenizer().decode(learned) == "Hello.<|eos|>Bye.<|eos|>"


@pytest.mark.parametrize("more", [[], [{"role": "assistant", "content": "Bye."}]])
def test_example_of_a_chat_that_begins_with_the_assistant(more):
    """The prompt of the input example ends before the next answer; there is none before the first one."""
    task = SupervisedFineTuning(chat_template="simple")
    tokenizer = byte_tokenizer()
    task.check_processor(tokenizer)
    example = task.example({"messages": [*GREETING[:1], *(GREETING[1:] + more if more else [])]}, tokenizer)
    expected = "<|assistant|>\nHello.<|eos|>\n<|user|>\nHi\n<|assistant|>\n"
    assert example == ({"text": expected} if more else {})


def test_first_turn_that_the_template_does_not_open_is_a_bad_row():
    """Without a generation prompt nothing tells where the text of the first turn begins."""
    closed = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    (bad,) = bad_rows([{"messages": CHAT}, {"messages": GREETING}], closed)
    assert (bad.row, bad.column) == (1, "messages")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi?\n\nyou", "completion": "Hello."},
        {"instruction": "Hi?", "input": "you", "output": "Hello."},
        {"conversations": [{"from": "human", "value": "Hi?\n\nyou"}, {"from": "gpt", "value": "Hello."}]},
        {
            "prompt": [{"role": "user", "content": "Hi?\n\nyou"}],
            "completion": [{"role": "assistant", "content": "Hello."}],
        },
        {"conversations": [{"from": "user", "value": "Hi?\n\nyou"}, {"from": "chatgpt", "value": "Hello."}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi?\n\nyou"}]},
                {"role": "assistant", "content": "Hello."},
            ]
        },
    ],
)
def test_forms_of_chats(row):
    """Pairs, Alpaca's form, ShareGPT's, and OpenAI's parts of content make the same tokens."""
    assert not bad_rows([row])
    encoded = prepare([row]).splits["train"][0]
    assert byte_tokenizer().decode(encoded["input_ids"]) == "<|user|>\nHi?\n\nyou\n<|assistant|>\nHello.<|eos|>\n"


def test_history_of_an_instruction_comes_before_it():
    """Its answers are learned like the last one."""
    row = {"instruction": "Bye", "output": "See you.", "history": [["Hi", "Hello."], ["Sun?", "Yes."]]}
    assert not bad_rows([row])
    assert learned(prepare([row]).splits["train"][0]) == "Hello.<|eos|>Yes.<|eos|>See you.<|eos|>"
    (bad,) = bad_rows([row, {**row, "history": [["Hi"]]}])
    assert (bad.row, bad.column) == (1, "history")


def test_system_column_comes_first():
    """A prompt of the system in a column of its own."""
    row = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}], "system": "Be brief."}
    text = byte_tokenizer().decode(prepare([row]).splits["train"][0]["input_ids"])
    assert text.startswith("<|system|>\nBe brief.\n<|user|>")


def test_sharegpt_function_calls():
    """A call of a function is an answer that calls a tool, and its observation the tool's."""
    turns = [
        ("human", "Sun?"),
        ("function_call", '{"name": "weather", "arguments": {}}'),
        ("observation", "yes"),
        ("gpt", "Yes."),
    ]
    row = {"conversations": [{"from": role, "value": value} for role, value in turns]}
    assert not bad_rows([row])
    assert (
        learned(prepare([row]).splits["train"][0])
        == '<|tool_call|>{"name": "weather", "arguments": {}}<|eos|>Yes.<|eos|>'
    )


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x.png"}}]},
        {"role": "assistant", "content": "no", "weight": 0},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "not JSON"}}]},
    ],
)
def test_messages_that_would_lose_something_are_bad(message):
    """What templates cannot write is not left out silently."""
    (bad,) = bad_rows([{"messages": CHAT}, {"messages": [*CHAT, message]}])
    assert bad.row == 1


def test_two_forms_in_one_file_are_an_error():
    """Which of them to train on is for the user to say."""
    rows = DatasetDict(train=Dataset.from_list([{"messages": CHAT, "prompt": "x", "completion": "y"}]))
    with pytest.raises(ConfigError) as error:
        list(SupervisedFineTuning().bad_rows(rows, None))
    assert error.value.problems[0].key == "dataset.columns"


def test_file_without_columns_of_the_task_names_its_columns(compose, own_directory):
    """All of the task's columns are optional, but one of its forms must be there; told before loading."""
    from hydratune.config.validate import check_config

    write_rows(own_directory / "a.jsonl", [{"question": "x", "answer": "y"}])
    cfg = compose(
        "dataset=local", "dataset.files.train=a.jsonl", "task=supervised_fine_tuning", "model=gpt_tiny", "tracking=none"
    )
    with pytest.raises(ConfigError) as error:
        check_config(cfg)
    (problem,) = error.value.problems
    assert problem.key == "dataset.columns"
    assert "'question'" in problem.hint


def test_columns():
    """A question without an answer is no form of a chat."""
    rows = DatasetDict(train=Dataset.from_list([{"prompt": "x"}]))
    with pytest.raises(ConfigError) as error:
        list(SupervisedFineTuning().bad_rows(rows, None))
    assert error.value.problems[0].key == "dataset.columns"


def test_refused_chats_are_dropped(train, tiny_gpt, own_directory):
    """`on_bad_rows=skip` leaves out the chats that the template refuses, before anything is encoded."""
    short = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    rows = [{"messages": short}] * 8 + [{"messages": short[1:]}]
    write_rows(own_directory / "a.jsonl", rows)
    typed = ["dataset=local", "dataset.files.train=a.jsonl", "task=supervised_fine_tuning", *tiny_gpt]
    template = STRICT.replace('"', '\\"').replace("\n", "\\n")
    with pytest.raises(ConfigError) as error:
        train(*typed, f'task.chat_template="{template}"')
    assert error.value.problems[0].source == "a.jsonl:9"
    result = train(
        *typed,
        f'task.chat_template="{template}"',
        "dataset.on_bad_rows=skip",
        "trainer.args.max_steps=1",
        "task.excess_length=truncate",
    )
    assert result.metrics["eval_perplexity"] > 0


def test_learns(train, tiny_gpt, own_directory):
    """The tiny network learns an answer; the template is saved with its tokenizer."""
    from transformers import AutoTokenizer

    rows = [{"prompt": f"{i}", "completion": "yes" if i % 2 else "no"} for i in range(20)]
    for split in ("train", "validation", "test"):
        write_rows(own_directory / f"{split}.jsonl", rows)
    files = [f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test")]
    learn = ["task.chat_template=simple", "trainer.args.max_steps=100", "trainer.args.learning_rate=0.02"]
    result = train("dataset=local", "task=supervised_fine_tuning", *files, *tiny_gpt, *learn, *looked_at_every(50))
    assert result.metrics["test_perplexity"] < 1.5
    saved = AutoTokenizer.from_pretrained(result.directory / "model")
    assert (
        saved.apply_chat_template(CHAT[1:2], tokenize=False, add_generation_prompt=True)
        == "<|user|>\nHi ☕?\n<|assistant|>\n"
    )


@pytest.mark.parametrize("batch_size", [1, 7])
def test_perplexity_is_that_of_torch(train, tiny_gpt, own_directory, batch_size):
    """Over answers of many lengths it is exp of torch's mean over all their tokens, whatever the batches."""
    from transformers import AutoModelForCausalLM

    rows = [{"prompt": "p" * (i % 5 + 1), "completion": "answer " * (i % 3 + 1)} for i in range(10)]
    for split in ("train", "validation", "test"):
        write_rows(own_directory / f"{split}.jsonl", rows)
    files = [f"dataset.files.{split}={split}.jsonl" for split in ("train", "validation", "test")]
    options = ["task.chat_template=simple", f"trainer.args.per_device_eval_batch_size={batch_size}"]
    result = train("dataset=local", "task=supervised_fine_tuning", *files, *tiny_gpt, *options)
    network = AutoModelForCausalLM.from_pretrained(result.directory / "model").eval()
    said, true = [], []
    for row in prepare(rows).splits["train"]:
        with torch.no_grad():
            said.append(network(torch.tensor([row["input_ids"]])).logits[0, :-1])
        true.append(torch.tensor(row["labels"][1:]))
    said, true = torch.cat(said), torch.cat(true)
    perplexity = math.exp(torch.nn.functional.cross_entropy(said, true))
    assert result.metrics["test_perplexity"] == pytest.approx(perplexity, rel=1e-6)
    right = (said.argmax(-1) == true)[true != -100].double().mean().item()
    assert result.metrics["test_accuracy"] == pytest.approx(right, abs=1e-9)
