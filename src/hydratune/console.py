"""Terminal output that prints all text literally."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(**options: Any) -> Console:
    """Create a console that prints values, labels, names, and paths as they are.

    Rich reads `[bold]` in a string as markup and `:smile:` as an emoji. All our output contains text from users, so
    every console of this project is created here. A style is set by the `style` argument, never inside a string.

    Args:
        options: Arguments of `rich.console.Console`.
    """
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, **options)
