"""A training step of the classifier: ours against the plain implementation of Partial FC. Prints JSON lines.

    python benchmarks/head.py [--cases 93431:1 93431:0.1 …] [--flat] [--steps 5]

Each case is C:r, classes and sample rate, at D = 512, B = 128, float32. The plain implementation draws a random number
for every class, takes the sampled centres by indexing, whose gradient is a zero-filled tensor of all centres, stores
the logits, and lets SGD's momentum and weight decay run over every row. Ours is `PartialFC` with its optimiser, with
products in float32 ("fp32") and in bfloat16 ("bf16"), and with centres and momentum stored in bfloat16 besides
("bf16_stored"). Each runs in a process of its own, one after the other: `seconds` is the median of a step (forward,
backward, update), `peak_gib` the most memory that the process held, in GiB. `floor_seconds` is the time of the step's
matrix products alone, in the same type (forward once, backward twice), and of reading and writing the sampled centres
and momentum once, measured in our process. `--flat` times one number of sampled classes out of more and more.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from faceprint.classifier import PartialFC
from faceprint.margins import CosFace
from faceprint.memory import keep_freed_memory

D, B = 512, 128
CASES = ["93431:1", "93431:0.1", "300000:0.1", "1000000:0.1", "5000000:0.02"]
FLAT = [100_000, 300_000, 1_000_000, 3_000_000, 5_000_000]
FLAT_SAMPLED = 20_000
PLAIN_LIMIT = 2_000_000
"""More classes than this do not fit in memory in the plain way."""


def plain_step(classes: int, rate: float) -> Callable[[Tensor, Tensor], None]:
    weight = nn.Parameter(torch.empty(classes, D).normal_(0, 0.01))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=5e-4)

    def step(embeddings: Tensor, labels: Tensor) -> None:
        if rate < 1:
            chance = torch.rand(classes)
            chance[labels] = 2.0
            index = chance.topk(round(rate * classes)).indices.sort().values
            active, target = weight[index], torch.searchsorted(index, labels)
        else:
            active, target = weight, labels
        logits = F.linear(F.normalize(embeddings), F.normalize(active)).clamp(-1, 1)
        one_hot = F.one_hot(target, logits.shape[1]) if logits.shape[1] <= 100_000 else None
        if one_hot is None:
            logits[torch.arange(B), target] -= 0.4
        else:
            logits = logits - 0.4 * one_hot
        F.cross_entropy(64 * logits, target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def our_step(classes: int, rate: float, stored: str, product: str) -> Callable[[Tensor, Tensor], None]:
    keep_freed_memory()
    classifier = PartialFC(D, classes, CosFace(64.0, 0.4), rate, centres=stored, product=product)  # pyright: ignore[reportArgumentType]
    optimizer = classifier.make_optimizer(0.1, state=stored)

    def step(embeddings: Tensor, labels: Tensor) -> None:
        classifier(embeddings, labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def floor(sampled: int, kind: torch.dtype) -> float:
    """Seconds of three products of B x D by D x sampled, and of one read and write of centres and momentum."""
    block = 4096
    x, w, g = torch.randn(B, D).to(kind), torch.randn(block, D).to(kind), torch.randn(B, block).to(kind)
    out = torch.empty(block, D, dtype=kind)
    big = torch.randn(max(sampled, block) * 2, D)
    times: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(max(1, sampled // block)):
            _ = x @ w.T
            _ = g @ w
            torch.mm(g.T, x, out=out)
        big.mul_(1.0)
        times.append(time.perf_counter() - started)
    return min(times)


OURS = {"fp32": ("fp32", "fp32"), "bf16": ("fp32", "bf16"), "bf16_stored": ("bf16", "bf16")}
"""What centres are stored in, and what is multiplied in."""


def run(name: str, classes: int, rate: float, steps: int, results: Any) -> None:
    torch.manual_seed(0)
    step = plain_step(classes, rate) if name == "plain" else our_step(classes, rate, *OURS[name])
    seconds: list[float] = []
    for number in range(steps + 1):
        embeddings, labels = torch.randn(B, D, requires_grad=True), torch.randint(classes, (B,))
        started = time.perf_counter()
        step(embeddings, labels)
        if number:
            seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result: dict[str, Any] = {"seconds": round(statistics.median(seconds), 4), "peak_gib": round(peak, 3)}
    if name != "plain":
        kind = torch.float32 if OURS[name][1] == "fp32" else torch.bfloat16
        result["floor_seconds"] = round(floor(round(rate * classes), kind), 4)
    results.put(result)


def measured(name: str, classes: int, rate: float, steps: int) -> dict[str, Any]:
    context = mp.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=run, args=(name, classes, rate, steps, results))
    process.start()
    process.join()
    if process.exitcode:
        return {"failed": f"exit status {process.exitcode}"}
    return results.get()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=CASES, metavar="C:r")
    parser.add_argument("--flat", action="store_true", help="one number of sampled classes out of more and more")
    parser.add_argument("--ours", nargs="*", default=["fp32", "bf16"], choices=list(OURS))
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    cases = [(int(classes), float(rate)) for classes, rate in (case.split(":") for case in args.cases)]
    if args.flat:
        cases = [(classes, FLAT_SAMPLED / classes) for classes in FLAT]
    for classes, rate in cases:
        line: dict[str, Any] = {"benchmark": "head", "classes": classes, "sample_rate": rate}
        line["threads"] = torch.get_num_threads()
        if not args.flat and classes <= PLAIN_LIMIT:
            line["plain"] = measured("plain", classes, rate, args.steps)
        for name in args.ours:
            line[name] = measured(name, classes, rate, args.steps)
            if "plain" in line:
                line[name]["speedup"] = round(line["plain"]["seconds"] / line[name]["seconds"], 2)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
