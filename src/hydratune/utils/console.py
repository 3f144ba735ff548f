"""Terminal output that prints all text literally."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from hydratune.utils.escaping import escape_control

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
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


def watch(
    console: Console, board: Callable[[], RenderableType], is_done: Callable[[], bool] | None, pause: float = 2
) -> None:
    """Print a table; with `is_done`, update it in place until that returns True or the user presses Ctrl-C.

    Args:
        console: Console to print on.
        board: Makes the table in its current state.
        is_done: Returns whether the table will not change any more; None to print it once.
        pause: Seconds between two updates.
    """
    if is_done is None or not console.is_terminal:
        console.print(board())
        return
    from rich.live import Live

    with suppress(KeyboardInterrupt), Live(board(), console=console, auto_refresh=False) as live:
        while not is_done():
            time.sleep(pause)
            live.update(board(), refresh=True)


def sparkline(values: Sequence[float]) -> str:
    """Return a line of bars from the lowest to the highest value; NaN and infinity are crosses.

    >>> sparkline([1, 2, 3])
    '▁▄█'
    """
    bars, finite = "▁▂▃▄▅▆▇█", [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[int((value - low) * scale)] if math.isfinite(value) else "x" for value in values)
