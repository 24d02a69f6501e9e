"""The device that computes."""

from __future__ import annotations

import torch

from faceprint.errors import UserError


def resolve_device(name: str) -> torch.device:
    """ "auto" is the first of cuda, mps and cpu that is there; another name must be. Raises `UserError`."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available.get(name, False):
        there = ", ".join(device for device, is_there in available.items() if is_there)
        raise UserError(f"device {name!r} is not available here; available: auto, {there}")
    if name == "cuda":
        return torch.device("cuda", torch.cuda.current_device())  # this process's own, where there are several
    return torch.device(name)


def synchronize(device: torch.device) -> None:
    """Wait until `device` has done what it was given; the CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
