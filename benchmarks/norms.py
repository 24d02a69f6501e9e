"""What Switchable Normalisation costs: a training step with SN, and one hardened to BN, against BN, in one run.

    python benchmarks/norms.py [--network r50] [--batch-size 16] [--precision fp32] [--steps 4] [--compile]

Prints JSON: the median seconds of a step (forward, backward, optimiser) and its ratio to BN's. `plain_sn` is SN
written out with torch's reductions, as the published code has it. The networks take turns, step by step; with
`--compile` all four are compiled, the first step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from faceprint.models.norms import SwitchNorm2d
from faceprint.recipe import validate
from faceprint.training.guard import gradient_norm
from faceprint.training.loop import add_gradients, update_weights
from faceprint.training.setup import build_trainer
from faceprint.training.trainer import Trainer

IDENTITIES = 512


class PlainSwitchNorm(nn.Module):
    """SN by the formula, each moment by its own reduction; weights and logits are those of `norm`."""

    def __init__(self, norm: SwitchNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        norm, (images, channels, height, width) = self.norm, x.shape
        places = x.reshape(images, channels, -1).float()
        mean_in, var_in = places.mean(-1, keepdim=True), places.var(-1, keepdim=True)
        square = var_in + mean_in**2
        mean_ln, mean_bn = mean_in.mean(1, keepdim=True), mean_in.mean(0, keepdim=True)
        var_ln, var_bn = square.mean(1, keepdim=True) - mean_ln**2, square.mean(0, keepdim=True) - mean_bn**2
        w, v = norm.mean_logits.softmax(0), norm.var_logits.softmax(0)
        mean = w[0] * mean_in + w[1] * mean_ln + w[2] * mean_bn
        var = v[0] * var_in + v[1] * var_ln + v[2] * var_bn
        y = ((places - mean) / (var + norm.eps).sqrt()).reshape(images, channels, height, width)
        return (y * norm.weight[:, None, None] + norm.bias[:, None, None]).to(x.dtype)


def make(args: argparse.Namespace, options: dict[str, Any]) -> Trainer:
    return build_trainer(
        validate(
            {
                "network": {"name": args.network, "options": options},
                "data": {"source": "synthetic", "identities": IDENTITIES, "images_per_identity": 1},
                "batch_size": args.batch_size,
                "optimizer": {"lr": 1e-5},
                "steps": 1,
                "precision": args.precision,
                "compile": args.compile,
                "device": args.device,
            }
        )
    )


def plain(trainer: Trainer) -> Trainer:
    for name, module in list(trainer.network.named_modules()):
        if isinstance(module, SwitchNorm2d):
            trainer.network.set_submodule(name, PlainSwitchNorm(module))
    return trainer


def seconds(trainer: Trainer, images: Tensor, labels: Tensor) -> float:
    trainer.network.train()
    images = images.to(trainer.device, memory_format=trainer.memory_format)
    started = time.perf_counter()
    loss, _ = add_gradients(trainer, images, labels.to(trainer.device))
    update_weights(trainer, gradient_norm(trainer))
    loss.item()  # waits for the device
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="r50")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    trainers = {
        "bn": make(args, {"norm": "bn"}),
        "sn": make(args, {"norm": "sn"}),
        "hardened_to_bn": make(args, {"norm": "sn", "norm_options": {"argmax": True}}),
        "plain_sn": plain(make(args, {"norm": "sn"})),
    }
    images = torch.randn(args.batch_size, 3, 112, 112)
    labels = torch.randint(IDENTITIES, (args.batch_size,))
    taken: dict[str, list[float]] = {name: [] for name in trainers}
    for step in range(args.steps + 1):
        for name, trainer in trainers.items():
            spent = seconds(trainer, images, labels)
            if step:  # the first warms up
                taken[name].append(spent)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    print(
        json.dumps(
            {
                "benchmark": "norms",
                "network": args.network,
                "batch_size": args.batch_size,
                "precision": args.precision,
                "compile": args.compile,
                "threads": torch.get_num_threads(),
                "seconds_per_step": {name: round(value, 4) for name, value in medians.items()},
                "ratio_to_bn": {name: round(value / medians["bn"], 3) for name, value in medians.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
