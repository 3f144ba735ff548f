"""FLOP of training an encoder, and the FLOP rate of the machine, which `python flops.py` measures and prints."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SIZES = [(256, 256, 256), (512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (4096, 384, 1536), (4096, 1536, 384)]
GPU_SIZES = [(2**power,) * 3 for power in range(11, 15)]
SECONDS = 0.3  # per size


@dataclass(frozen=True)
class Encoder:
    """Dimensions of a BERT classifier that determine its FLOP."""

    layers: int
    hidden: int
    intermediate: int
    labels: int = 2

    @classmethod
    def from_checkpoint(cls, checkpoint: Path) -> Encoder:
        """Read the dimensions from the config.json of a checkpoint."""
        config = json.loads((checkpoint / "config.json").read_text())
        return cls(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"])

    def training_flops(self, lengths: Iterable[int]) -> float:
        """Return the floating-point operations of the forward and backward passes for rows of these lengths in tokens.

        - A weight of a linear layer takes 2 FLOP per token forward and 4 backward. A layer has the projections Q, K, V,
          and output (4 h^2 weights) and the feed-forward network (2 h i weights).
        - Attention multiplies Q by K and the result by V. Each takes 2 s^2 h forward, so both passes take 12 s^2 h.
        - The pooler and the head (h^2 + h labels) process one token per row.

        Embedding lookups, norms, activations, dropout, and the optimizer multiply no matrices and are not counted.
        """
        linear = 6 * self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.intermediate)
        attention = 12 * self.layers * self.hidden
        head = 6 * (self.hidden**2 + self.hidden * self.labels)
        return sum(float(linear * length + attention * length**2 + head) for length in lengths)


def measure_matmuls(device: str) -> Iterator[tuple[str, tuple[int, int, int], float]]:
    """Multiply A (m, k) by B (k, n), and yield the precision, (m, k, n), and the best FLOP/s of several repetitions."""
    import torch

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    for dtype in (torch.bfloat16, torch.float32):
        for m, k, n in GPU_SIZES if device == "cuda" else SIZES:
            a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((m, k), (k, n)))
            out, best, end = a @ b, float("inf"), time.perf_counter() + SECONDS
            while best == float("inf") or time.perf_counter() < end:
                start = now()
                torch.matmul(a, b, out=out)
                best = min(best, now() - start)
            yield str(dtype).removeprefix("torch."), (m, k, n), 2 * m * k * n / best


def main() -> None:
    """Print the best FLOP/s of each precision, and its matrix sizes, as JSON."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    best: dict[str, float] = {}
    sizes: dict[str, tuple[int, int, int]] = {}
    for precision, size, rate in measure_matmuls(device):
        if rate > best.get(precision, 0):
            best[precision], sizes[precision] = rate, size
    print(json.dumps({"device": name, "flops": best, "sizes": sizes}))


if __name__ == "__main__":
    main()
