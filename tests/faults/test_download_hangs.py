"""A download from the Hub that stops in the middle: a message, an end on request, and a second try."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import fake_hub
from hydratune.utils.errors import SAVED
from processes import HYDRATUNE

pytestmark = pytest.mark.slow

COMMAND = ["experiment=mrpc", "trainer.args.max_steps=1", "tracking=none", "hydra.run.dir=run", "resume=auto"]


@pytest.mark.parametrize("file", ["model.safetensors", "mrpc/train-"])
def test_download_that_hangs_can_be_ended_and_repeated(tiny_model, tmp_path, file):
    """The log names the server; SIGTERM ends the command; the cache has no file that breaks the next try."""
    log = tmp_path / "log"
    with fake_hub.serve(fake_hub.write_files(tmp_path / "hub", tiny_model)) as server, log.open("w") as output:
        settings = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
        settings |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "1"}
        environment = {name: value for name, value in os.environ.items() if name != "HF_DATASETS_CACHE"} | settings
        server.faults = {f"GET .*{file}": ["stall"] * 9}
        process = subprocess.Popen([HYDRATUNE, *COMMAND], stdout=output, stderr=output, env=environment)
        while not (server.hanging.is_set() and server.url in log.read_text()):
            assert process.poll() is None, log.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert (process.wait(), "Traceback" in log.read_text()) == (SAVED, False), log.read_text()
        server.faults = {}
        again = subprocess.run([HYDRATUNE, *COMMAND], capture_output=True, text=True, env=environment, check=False)
    assert again.returncode == 0, again.stderr
    assert Path("run/metrics.json").is_file()
