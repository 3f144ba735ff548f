"""Terminal output that prints all text literally."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from hydratune.utils.escaping import escape_control

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def plain_console(**options: Any) -> Console:
    """Create a console that prints values, labels, names, and paths as they are.

    Rich reads `[bold]` in a string as markup and `:smile:` as an emoji, and prints escape sequences of terminals. All
    our output contains text from users, so every console of this project is created here. Styles are set by the `style`
    argument, never inside a string.

    Args:
        options: Arguments of `rich.console.Console`.
    """
    from rich.console import Console

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(escape_control(text), **options)

        def _stream(self) -> IO[str]:
            stream = Console.file.fget(self)  # type: ignore[attr-defined]
            return getattr(stream, "rich_proxied_file", stream)  # `utils.logs` wraps it, below rich in a live display

        file = property(_stream, Console.file.fset)  # type: ignore[attr-defined]

    return PlainConsole(markup=False, emoji=False, highlight=False, **options)
