"""A chat template is a program in Jinja that comes with a checkpoint: it reads the chat, and nothing else."""

import json
import shutil
from pathlib import Path

import jinja2
import pytest

from hydratune.models.base import load_tokenizer
from hydratune.tasks.chat_template import apply_template
from hydratune.utils.errors import ConfigError

CHAT = [{"role": "user", "content": "hi"}]
OPEN = "['open']('canary', 'w').close()"
# Templates that write a file without the sandbox.
PAYLOADS = [
    "{{ cycler.__init__.__globals__.os.mkdir('canary') }}",
    "{{ joiner.__init__.__globals__['os'].mkdir('canary') }}",
    "{{ namespace.__init__.__globals__.os.mkdir('canary') }}",
    "{{ lipsum.__globals__.os.mkdir('canary') }}",
    "{{ lipsum['__globals__']['os'].mkdir('canary') }}",
    "{{ (lipsum|attr('__globals__'))['os'].mkdir('canary') }}",
    "{{ lipsum|attr('__glo' ~ 'bals__')|attr('get')('os')|attr('mkdir')('canary') }}",
    "{{ cycler.next.__globals__['__builtins__']" + OPEN + " }}",
    "{{ self.__init__.__globals__['__builtins__']" + OPEN + " }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.mkdir('canary') }}",
    "{% set g = cycler.__init__.__globals__ %}{{ g['os'].mkdir('canary') }}",
    "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__['__builtins__']" + OPEN + " }}",
    "{{ dict.mro()[1].__subclasses__() }}{{ lipsum.__globals__.os.mkdir('canary') }}",
]


@pytest.mark.parametrize("template", PAYLOADS)
def test_chat_template_of_a_checkpoint_runs_no_code(tiny_model, own_directory, template):
    """It ends in an error of the user."""
    folder = Path(shutil.copytree(tiny_model, own_directory / "theirs"))
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": template}))
    tokenizer = load_tokenizer("model", str(folder))
    assert tokenizer.chat_template == template
    with pytest.raises(ConfigError) as caught:
        apply_template(tokenizer, CHAT, None, tokenize=False)
    assert [problem.key for problem in caught.value.problems] == ["task.chat_template"]
    assert not (own_directory / "canary").exists()


@pytest.mark.parametrize("template", PAYLOADS)
def test_chat_template_without_the_sandbox_runs_code(own_directory, template):
    """Positive control."""
    jinja2.Environment().from_string(template).render(messages=CHAT)  # noqa: S701
    assert (own_directory / "canary").exists()
