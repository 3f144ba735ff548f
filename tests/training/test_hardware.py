"""What the machine offers is used, said, and overridden key by key."""

import os
from types import SimpleNamespace

import pytest
import torch
from transformers import BertConfig, LlamaConfig, TrainingArguments, ViTConfig

from hydratune.models import EncoderDecoder
from hydratune.training.hardware import choices
from hydratune.training.hardware.hardware import Hardware
from hydratune.utils import machine
from hydratune.utils.errors import ConfigError
from hydratune.utils.machine import Gpu, Machine

H100 = Gpu(name="H100", bf16=True, tf32=True)
T4 = Gpu(name="T4", bf16=False, tf32=False)


@pytest.fixture(autouse=True)
def _as_before():
    """Torch's settings are put back afterwards."""
    threads, precision = torch.get_num_threads(), torch.backends.fp32_precision
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    torch.backends.fp32_precision = precision


@pytest.fixture
def on(monkeypatch):
    """Makes the machine that is found another one."""
    return lambda **facts: monkeypatch.setattr(
        "hydratune.training.hardware.hardware.machine", lambda: Machine(**{"cores": 2, "all_cores": 2, **facts})
    )


def said(hardware, caplog, **given):
    """The line of a run with these `trainer.args`."""
    caplog.set_level("INFO")
    hardware.prepare(given)
    hardware.log_summary()
    return caplog.messages[-1]


# --- what is chosen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"bf16": "amx_bf16"}, "CPU, 2 threads, bf16 (amx_bf16)"),
        ({}, "CPU, 2 threads, fp32 (the CPU has no bf16)"),
        ({"all_cores": 64, "limit": "cgroup"}, "CPU, 2 threads (of 64, cgroup), fp32 (the CPU has no bf16)"),
        ({"gpu": H100, "cores": 16}, "H100, bf16 (native), 4 DataLoader workers"),
        ({"gpu": T4}, "T4, fp32 (the GPU has no bf16), 1 DataLoader workers"),
        ({"mps": True}, "MPS, 2 threads, fp32 (safe on MPS)"),
    ],
)
def test_one_line_says_what_and_why(on, caplog, facts, line):
    """The device, its precision and what limits it."""
    on(**facts)
    assert said(Hardware(), caplog) == f"hardware: {line}"


def test_a_gpu_gets_what_a_cpu_does_not(on):
    """Workers that stay, and pinned memory; never more workers than cores that are left."""
    on(gpu=H100, cores=3)
    chosen = Hardware().prepare()
    assert chosen == {
        "use_cpu": False,
        "bf16": True,
        "fp16": False,
        "dataloader_num_workers": 2,
        "dataloader_persistent_workers": True,
        "dataloader_pin_memory": True,
    }
    cpu = Hardware(device="cpu").prepare()
    assert cpu["use_cpu"]
    assert not cpu["dataloader_num_workers"]
    assert not cpu["dataloader_pin_memory"]


def test_as_asked(on):
    """An explicit key beats the probe."""
    on(gpu=H100)
    chosen = Hardware(precision="fp16", dataloader_num_workers=0, dataloader_pin_memory=False).prepare()
    assert (chosen["fp16"], chosen["bf16"]) == (True, False)
    assert (chosen["dataloader_num_workers"], chosen["dataloader_pin_memory"]) == (0, False)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"bf16": True}, {"bf16", "fp16"}),
        ({"fp16": True}, {"bf16", "fp16"}),
        ({"fp16": False}, {"fp16"}),
        ({"use_cpu": True}, {"use_cpu"}),
        ({"dataloader_num_workers": 3}, {"dataloader_num_workers", "dataloader_persistent_workers"}),
    ],
)
def test_what_the_user_gave_is_left_alone(on, given, missing):
    """Arguments in trainer.args win, and nothing that contradicts them is added."""
    on()
    assert set(Hardware().prepare()) - set(Hardware().prepare(given)) == missing


def test_a_cpu_by_trainer_args_is_a_cpu(on, caplog):
    """`trainer.args.use_cpu` decides on what all else is chosen for."""
    on(gpu=H100)
    assert said(Hardware(), caplog, use_cpu=True) == "hardware: CPU, 2 threads, fp32 (the CPU has no bf16)"


def test_a_gpu_without_bf16_by_the_user_multiplies_in_tf32(on, caplog):
    """The line does not say what trainer.args overruled; TF32 is torch's setting, and goes with the next run."""
    on(gpu=H100)
    assert said(Hardware(), caplog, bf16=False).startswith("hardware: H100, tf32 (native)")
    assert torch.backends.fp32_precision == "tf32"
    Hardware(precision="fp32").prepare()
    assert torch.backends.fp32_precision == "ieee"


@pytest.mark.parametrize(
    ("asked", "facts", "device"),
    [
        ({"device": "cuda"}, {}, "GPU"),
        ({"precision": "fp16"}, {}, "a CPU"),
        ({"precision": "tf32"}, {"gpu": T4}, T4.name),
        ({"precision": "tf32"}, {"mps": True}, "MPS"),
    ],
)
def test_what_the_machine_has_not(on, asked, facts, device):
    """One message, before anything is loaded."""
    on(**facts)
    ((name, value),) = asked.items()
    with pytest.raises(ConfigError) as caught:
        Hardware(**asked).prepare()
    (problem,) = caught.value.problems
    assert problem.key == f"hardware.{name}"
    assert f"{problem.key}={value}" in problem.message
    assert device in problem.message
    assert problem.hints[0].endswith(f"set {problem.key}=auto")


def test_no_gpu_ends_with_one_message(train, toy, on):
    """`hardware=gpu` on a machine without one trains nothing."""
    on()
    with pytest.raises(ConfigError) as caught:
        train(*toy, "hardware=gpu")
    assert [problem.key for problem in caught.value.problems] == ["hardware.device"]


def test_threads(on):
    """As many as cores are allotted, or as many as asked."""
    on(cores=3)
    Hardware(threads=1).prepare()
    assert torch.get_num_threads() == 1
    Hardware().prepare()
    assert torch.get_num_threads() == 3


def test_processes_of_a_run_share_the_cores(on, monkeypatch):
    """As torchrun says how many they are; at least one each."""
    on(cores=8)
    monkeypatch.setenv("HYDRATUNE_RANK_PID", str(os.getpid()))
    for processes, threads in (("2", 4), ("9", 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        Hardware().prepare()
        assert torch.get_num_threads() == threads


def test_deterministic_is_set_and_taken_back(on, monkeypatch):
    """A run that does not ask for it is not slowed down by one before it; what the user exported stays."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setenv("FLASH_ATTENTION_DETERMINISTIC", "0")
    on()
    Hardware(deterministic=True).prepare()
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    Hardware().prepare()
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert os.environ["FLASH_ATTENTION_DETERMINISTIC"] == "0"


@pytest.mark.parametrize(
    ("asked", "kind", "steps", "fixed", "wanted"),
    [
        ("auto", "cuda", 50_000, True, True),
        ("auto", "cuda", 500, True, False),
        ("auto", "cuda", 50_000, False, False),
        ("auto", "cpu", 50_000, True, False),
        (True, "cpu", 1, False, True),
        (False, "cuda", 50_000, True, False),
    ],
)
def test_compiles_where_it_pays(asked, kind, steps, fixed, wanted):
    """On a GPU, in long runs, on batches of one shape; else as asked."""
    assert choices.compiles(asked, kind, steps, fixed).value is wanted


@pytest.mark.parametrize(
    ("asked", "given", "steps", "compiled"),
    [
        ("auto", {}, {"max_steps": 20_000}, True),
        ("auto", {}, {"num_train_epochs": 10, "per_device_train_batch_size": 8}, False),
        (True, {}, {"max_steps": 1}, True),
        (True, {"torch_compile_backend": "eager"}, {"max_steps": 1}, False),
    ],
)
def test_trainer_is_told_to_compile(on, tmp_path, asked, given, steps, compiled):
    """Before it is made; what trainer.args say of torch.compile wins. Ten epochs of 80 rows are 100 steps."""
    on(gpu=H100)
    images = SimpleNamespace(main_input_name="pixel_values", config=ViTConfig())
    args = TrainingArguments(tmp_path, use_cpu=True, **steps)
    hardware = Hardware(torch_compile=asked)
    hardware.prepare()
    hardware.configure_model(args, images, range(80), given)
    assert (args.torch_compile, args.torch_compile_backend) == (compiled, "inductor" if compiled else None)


def test_one_gpu_of_several(on, tmp_path, caplog):
    """A single process never trains on all of them by DataParallel, and says how they are all used."""
    on(gpu=H100)
    caplog.set_level("INFO")
    args = TrainingArguments(tmp_path, use_cpu=True)
    args._n_gpu = 4
    hardware = Hardware()
    hardware.prepare()
    hardware.use_one_gpu(args)
    hardware.log_summary()
    assert (args.n_gpu, args.train_batch_size) == (1, 8)
    assert "one of 4 GPUs (hardware=ddp uses all of them)" in caplog.messages[-1]


@pytest.mark.parametrize("override", ["hardware.deterministic=true", "hardware.dataloader_pin_memory=true"])
def test_the_same_weights(train, toy, override):
    """On a CPU, which repeats itself anyway, bit for bit."""
    plain, other = (train(*toy, *more, directory=name) for name, more in (("a", []), ("b", [override])))
    first, second = ((one.directory / "model" / "model.safetensors").read_bytes() for one in (plain, other))
    assert first == second


# --- the attention kernel ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "kind", "bf16", "longest", "kernel"),
    [
        (BertConfig(), "cpu", "", 4096, "eager"),
        (BertConfig(), "cuda", "", 32, None),
        (BertConfig(attention_probs_dropout_prob=0.0), "cpu", "", 32, None),
        (ViTConfig(), "cpu", "avx512_bf16", 0, "eager"),
        (LlamaConfig(), "cpu", "avx512_bf16", 512, "eager"),
        (LlamaConfig(), "cpu", "avx512_bf16", 513, None),
        (LlamaConfig(), "cpu", "avx512_bf16", None, None),
        (LlamaConfig(), "cpu", "amx_bf16", 32, None),
        (LlamaConfig(), "cuda", "avx512_bf16", 32, None),
    ],
)
def test_eager_attention_where_a_cpu_drops_it_or_has_short_rows_in_bf16(config, kind, bf16, longest, kernel):
    """Elsewhere transformers chooses."""
    assert getattr(choices.attention("auto", kind, config, bf16, lambda: longest), "value", None) == kernel


def kernels(train, toy, caplog, *overrides):
    """What the line of a run says of attention."""
    caplog.set_level("INFO")
    train(*toy, "trainer.args.max_steps=1", *overrides)
    line = next(message for message in caplog.messages if message.startswith("hardware: "))
    return [part for part in line.split(", ") if "attention" in part]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("hardware.attn_implementation=auto", ["eager attention (the model uses dropout)"]),
        ("hardware.attn_implementation=sdpa", ["sdpa attention"]),
        ("hardware.attn_implementation=null", []),
        ("model.attn_implementation=sdpa", []),
    ],
)
def test_the_network_gets_its_kernel(train, toy, caplog, override, words):
    """By the machine or by `hardware.attn_implementation`; `model.attn_implementation` wins."""
    assert kernels(train, toy, caplog, override) == words


@pytest.mark.parametrize(
    ("precision", "words"), [("bf16", ["eager attention (faster for short rows in bf16)"]), ("fp32", [])]
)
def test_rows_and_precision_are_looked_at(train, toy, caplog, on, precision, words):
    """Where the network drops nothing."""
    on(bf16="avx512_bf16")
    assert kernels(train, toy, caplog, f"hardware.precision={precision}", "model.dropout=0") == words


def test_both_sides_of_an_encoder_decoder_get_it(tiny_model, on):
    """A network of several parts runs with the kernel in all of them, and its config file says nothing of it."""
    on()
    sides = EncoderDecoder(encoder=str(tiny_model))
    config = sides.load_config()
    sides.load_processor("tokenizer", config)
    network = sides.load_network("AutoModelForSeq2SeqLM", config, {}).module
    hardware = Hardware()
    hardware.prepare()
    hardware.configure_model(TrainingArguments(max_steps=1, use_cpu=True), network, [], given={})
    assert {part.config._attn_implementation for part in (network, network.encoder, network.decoder)} == {"eager"}
    assert "eager" not in network.config.to_json_string()


def test_a_kernel_that_is_not_there(train, toy):
    """One message that names the key."""
    with pytest.raises(ConfigError) as caught:
        train(*toy, "hardware.attn_implementation=flash_attention_2")
    assert [problem.key for problem in caught.value.problems] == ["hardware.attn_implementation"]


# --- the probe ---------------------------------------------------------------------------------------------


def files(root, **contents):
    """A tree of files, `/` written as `__`."""
    for name, text in contents.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("flags", "found"),
    [("fpu avx512_bf16 amx_bf16", "amx_bf16"), ("fpu avx512_bf16", "avx512_bf16"), ("fpu avx512f", "")],
)
def test_the_best_instructions(tmp_path, flags, found):
    """By the flags of /proc/cpuinfo; AVX-512 alone multiplies no bf16."""
    assert machine.cpu_bf16(files(tmp_path, proc__cpuinfo=f"model name : bf16\nflags : {flags}\n")) == found


def test_arm_names_its_flags_otherwise(tmp_path):
    """`Features`, and `bf16` among them."""
    assert machine.cpu_bf16(files(tmp_path, proc__cpuinfo="Features : fp asimd bf16\n")) == "bf16"


GROUP2 = "sys__fs__cgroup__job__"
GROUP1 = "sys__fs__cgroup__"


@pytest.mark.parametrize(
    ("found", "cores"),
    [
        ({"proc__self__cgroup": "0::/job/step\n", f"{GROUP2}cpu.max": "150000 100000"}, 2),
        ({"proc__self__cgroup": "0::/job\n", f"{GROUP2}cpu.max": "10000 100000"}, 1),
        ({"proc__self__cgroup": "0::/job\n", f"{GROUP2}cpu.max": "max 100000"}, 8),
        ({"proc__self__cgroup": "0::/job\n", f"{GROUP2}cpu.max": "6400000 100000"}, 8),
        (
            {
                "proc__self__cgroup": "3:cpu,cpuacct:/elsewhere\n2:memory:/x\n",
                f"{GROUP1}cpu__cpu.cfs_quota_us": "300000",
                f"{GROUP1}cpu__cpu.cfs_period_us": "100000",
            },
            3,
        ),
        (
            {
                "proc__self__cgroup": "3:cpu:/\n",
                f"{GROUP1}cpu__cpu.cfs_quota_us": "-1",
                f"{GROUP1}cpu__cpu.cfs_period_us": "100000",
            },
            8,
        ),
        ({}, 8),
    ],
)
def test_cores_by_cgroup(tmp_path, monkeypatch, found, cores):
    """Of both versions: a quota of a group above counts, is rounded up, and never gives more than the affinity."""
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    assert machine.available_cpus(files(tmp_path, **found)) == cores


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ({"proc__meminfo": "MemTotal: 9 kB\nMemAvailable:  7 kB\n"}, 7 * 1024),
        (
            {
                "proc__meminfo": "MemAvailable: 900 kB\n",
                "proc__self__cgroup": "0::/job\n",
                f"{GROUP2}memory.max": "1000",
                f"{GROUP2}memory.current": "600",
                f"{GROUP2}memory.stat": "anon 400\ninactive_file 200\n",
            },
            600,
        ),
        (
            {
                "proc__self__cgroup": "4:memory:/job\n",
                "sys__fs__cgroup__memory__job__memory.limit_in_bytes": "1000",
                "sys__fs__cgroup__memory__job__memory.usage_in_bytes": "900",
                "sys__fs__cgroup__memory__job__memory.stat": "total_inactive_file 100\n",
                "sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712",
                "sys__fs__cgroup__memory__memory.usage_in_bytes": "5000",
            },
            200,
        ),
        ({}, None),
    ],
)
def test_memory_that_is_left(tmp_path, found, left):
    """The least of what machine and groups leave; cached files that can go count as free."""
    assert machine.free_memory(files(tmp_path, **found)) == left


def test_what_limits_the_cores_is_known(tmp_path, monkeypatch):
    """A quota, or an affinity, or nothing."""
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(4)))
    assert machine.machine(tmp_path).limit == "affinity"
    quota = files(tmp_path, proc__self__cgroup="0::/\n", **{"sys__fs__cgroup__cpu.max": "200000 100000"})
    assert (machine.machine(quota).cores, machine.machine(quota).limit) == (2, "cgroup")
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(8)))
    (quota / "sys/fs/cgroup/cpu.max").unlink()
    assert machine.machine(quota).limit == ""


def test_visible_gpus_are_those_of_the_environment(monkeypatch):
    """CUDA_VISIBLE_DEVICES decides, even if it is empty."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert machine.visible_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.visible_gpus() == []


@pytest.mark.parametrize(
    ("variable", "threads", "is_named"), [("1", None, True), ("3", None, False), ("", None, False), ("1", 2, False)]
)
def test_ignored_threads_of_the_environment_are_named(on, caplog, monkeypatch, variable, threads, is_named):
    """A run says that OMP_NUM_THREADS has no effect, unless it agrees or the config sets the threads."""
    on(cores=3)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    said(Hardware(threads=threads), caplog)
    assert ("OMP_NUM_THREADS=" in caplog.text) == is_named
