"""Peak memory of one training step of published networks, each in a process of its own.

    python benchmarks/step_memory.py [--batch-size 8] [--weights bf16] [--no-momentum] [NAME …]

Prints a table in Markdown: a network's parameters, and the most memory that its process held above what it held
before the network was built: weights, gradients, SGD's momentum, activations, work space of the convolutions.
Networks default to all of `faceprint.list_models()`.
"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import resource
import time
from typing import Any

import torch

import faceprint


def peak() -> int:
    """Most bytes of memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(name: str, batch_size: int, weights: torch.dtype, momentum: float, results: Any) -> None:
    images = torch.randn(batch_size, 3, 112, 112, dtype=weights).contiguous(memory_format=torch.channels_last)
    before = peak()
    with torch.device("meta"):  # so that weights of another type are not made in float32 first
        network = faceprint.create_model(name)
        network.backbone.to(weights)
    network.to_empty(device="cpu").train()
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - torch's stub lacks this form
    for values in (*network.parameters(), *network.buffers()):
        values.data.fill_(0.01)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=momentum, foreach=False)
    started = time.perf_counter()
    network(images).float().sum().backward()
    optimizer.step()
    parameters = sum(values.numel() for values in network.parameters())
    results.put((parameters, (peak() - before) / 2**20, time.perf_counter() - started))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=faceprint.list_models())
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--weights", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--momentum", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    weights = {"fp32": torch.float32, "bf16": torch.bfloat16}[args.weights]
    context = mp.get_context("spawn")
    print("| network | parameters | peak of a step, MiB | seconds |")
    print("|---|---|---|---|")
    for name in args.names:
        results = context.SimpleQueue()
        arguments = (name, args.batch_size, weights, 0.9 if args.momentum else 0.0, results)
        process = context.Process(target=measure, args=arguments)
        process.start()
        process.join()
        if process.exitcode:
            print(f"| {name} | | failed with exit status {process.exitcode} | |", flush=True)
            continue
        parameters, mebibytes, seconds = results.get()
        print(f"| {name} | {parameters / 1e6:.2f} M | {mebibytes:,.0f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
