"""What the machine offers is used, said, and overridden key by key."""

import pytest
import torch

from hydratune.hardware import probe
from hydratune.hardware.base import Hardware


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    """A machine without a GPU; torch's threads are put back afterwards."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_bf16_where_it_is_native(monkeypatch, caplog, native):
    """bf16 where the CPU multiplies it, fp32 where it would be emulated; one line says which and why."""
    caplog.set_level("INFO")
    monkeypatch.setattr(probe, "cpu_has_bf16", lambda: native)
    assert Hardware(threads=1).prepare() == {"bf16": native, "use_cpu": True}
    precision, verb = ("bf16", "multiplies") if native else ("fp32", "does not multiply")
    assert caplog.messages == [f"hardware: CPU, 1 threads, {precision} (this device {verb} bf16)"]


def test_precision_as_asked(monkeypatch):
    """An explicit precision beats the probe."""
    monkeypatch.setattr(probe, "cpu_has_bf16", lambda: True)
    assert Hardware(precision="fp32").prepare()["bf16"] is False


@pytest.mark.parametrize(("given", "left"), [(["bf16"], {"use_cpu"}), (["fp16"], {"use_cpu"}), (["use_cpu"], {"bf16"})])
def test_what_the_user_gave_is_left_alone(given, left):
    """Arguments in trainer.args win; bf16 is not added beside fp16, which contradicts it."""
    assert set(Hardware().prepare(given)) == left


def test_threads():
    """All CPUs of the process, or as many as asked."""
    Hardware(threads=1).prepare()
    assert torch.get_num_threads() == 1
    Hardware().prepare()
    assert torch.get_num_threads() == probe.available_cpus()
