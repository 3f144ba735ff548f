"""Screenshots for the README and the docs, docs/img/*.png, from eight real runs: `make pictures`.

It trains the embedded default on 200 definitions, with four learning rates and two seeds. Selenium then takes
screenshots of MLflow's pages and of the sweep's report with Debian's Chromium (`apt-get install chromium
chromium-driver`), in the light theme and, with the suffix `-dark`, in the dark theme.
To take the screenshots of earlier runs, pass their directory.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from PIL import Image  # noqa: E402 (the tests' helpers come from the line above)
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402

import browser  # noqa: E402
from hydratune.tracking.client import connect  # noqa: E402
from hydratune.tracking.runs_view import PARENT, TRAINING, sweep_page  # noqa: E402
from mlflow_server import serving  # noqa: E402

PICTURES = ROOT / "docs" / "img"
SIZE = (1500, 800)
MOST_BYTES = 200_000
DARK = "_mlflow_dark_mode_toggle_enabled"  # key of MLflow's own setting in the browser
RUNS = [
    "name=minilm",
    "trainer.args.learning_rate=3e-5,1e-4,3e-4,1e-3",
    "seed=1,2",
    "dataset.max_samples.train=200",
    "dataset.max_samples.validation=100",
    "dataset.max_samples.test=100",
    "trainer.args.num_train_epochs=2",
    "trainer.args.logging_steps=2",
]


def main() -> None:
    """Run the sweep, and take the screenshots."""
    if reason := browser.missing():
        sys.exit(reason)
    if sys.argv[1:]:  # only the pages have changed
        take_all(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        script = Path(sys.executable).with_name("hydratune")
        subprocess.run([script, "-m", *RUNS], cwd=folder, check=True)
        take_all(Path(folder))


def take_all(folder: Path) -> None:
    """Take the screenshots of the only sweep in a folder, in both themes."""
    (sweep,) = folder.glob("multirun/*")
    directories = sorted(sweep.glob("[0-7]"))
    with serving(directories[-1]) as (base, line):
        address = next(word for word in line.split() if word.startswith(base))
        for theme in ("light", "dark"):
            with browser.browsing(*SIZE) as driver:
                media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
                driver.get(base)
                driver.execute_script(f"localStorage.setItem('{DARK}', '{str(theme == 'dark').lower()}')")
                suffix = "-dark" if theme == "dark" else ""
                take(driver, base, address, json.loads((directories[-1] / "mlflow.json").read_text()), suffix)
                driver.get((sweep / "report" / "report.html").as_uri())
                browser.wait("the plots", lambda: driver.execute_script("return document.body.dataset.ready"))
                driver.execute_script("[...document.querySelectorAll('section')].at(-1).scrollIntoView()")
                save(driver, f"report{suffix}.png")


def take(driver, base: str, address: str, pointer: dict[str, str], suffix: str) -> None:
    """Take screenshots of the runs table, the comparison, and the charts of a run."""
    client = connect(pointer["uri"])
    runs = client.search_runs([pointer["experiment_id"]])
    ids = [run.info.run_id for run in runs if PARENT in run.data.tags]
    driver.get(address)
    browser.wait_text(driver, f"{len(runs)} matching runs", "lr=0.001")
    close_assistant(driver)
    save(driver, f"runs{suffix}.png")
    parent = next(run.data.tags[PARENT] for run in runs if PARENT in run.data.tags)
    driver.get(base + sweep_page(client, pointer["experiment_id"], parent))
    close_assistant(driver)
    browser.wait("the axes", lambda: driver.execute_script("return document.querySelector('.parcoords')"))
    save(driver, f"compare{suffix}.png")
    driver.get(f"{base}/#/experiments/{pointer['experiment_id']}/runs/{ids[0]}/model-metrics?{TRAINING}")
    browser.wait("the charts", lambda: driver.execute_script("return document.querySelector('.js-plotly-plot')"))
    box = "input[placeholder='Search metric charts']"
    search = browser.wait("the search", lambda: visible_elements(driver, box))[-1]
    search.send_keys("(train|eval)/(loss|accuracy|learning_rate)")  # the first charts are of single values
    browser.time.sleep(2)
    save(driver, f"run{suffix}.png")


def visible_elements(driver, selector: str) -> list:
    """Return the visible elements; empty while the page replaces them."""
    try:
        return [element for element in driver.find_elements("css selector", selector) if element.is_displayed()]
    except StaleElementReferenceException:
        return []


def close_assistant(driver) -> None:
    """Close the panel that MLflow opens next to its pages; if it has another name, the page is narrower."""
    driver.execute_script("document.querySelector('[data-component-id$=\"chat_panel.close\"]')?.click()")


def save(driver, name: str) -> None:
    """Write a screenshot with 256 colors, after the page has stopped changing."""
    before = b""
    while before != (now := driver.get_screenshot_as_png()):
        before = now
        browser.time.sleep(2)
    PICTURES.mkdir(exist_ok=True)
    path = PICTURES / name
    Image.open(io.BytesIO(now)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        sys.exit(f"{path}: {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
    print(path.relative_to(ROOT), f"{path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
