from __future__ import annotations

import torch
from torch import nn

from faceprint.models import create_model

SMALL = {"units": (1, 2, 1, 1), "embedding_dim": 8, "image_size": (32, 32), "output": "FC"}


def test_recomputing_changes_neither_gradients_nor_running_moments() -> None:
    for norm in ("bn", "sn"):
        torch.manual_seed(0)
        plain = create_model("r50", norm=norm, **SMALL)
        saving = create_model("r50", norm=norm, recompute=True, **SMALL)
        saving.load_state_dict(plain.state_dict())
        images, weights = torch.randn(4, 3, 32, 32), torch.randn(4, 8)
        for network in (plain, saving):
            (network.train()(images) * weights).sum().backward()
        for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
            if one.requires_grad:
                assert one.grad is not None
                assert other.grad is not None
                assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-5), name
        for (name, one), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
            if "num_batches" not in name:
                assert torch.allclose(one, other, atol=1e-6), name
        assert all(module.momentum == 0.1 for module in saving.modules() if isinstance(module, nn.BatchNorm2d))


def test_less_is_kept_for_the_backward_pass() -> None:
    def kept(recompute: bool) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        network = create_model("r50", recompute=recompute, **{**SMALL, "units": (2, 4, 4, 2)})
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(torch.randn(8, 3, 32, 32))
        weights = {weight.data_ptr() for weight in network.parameters()}
        return sum(size for pointer, size in sizes.items() if pointer not in weights)

    assert kept(True) < 0.45 * kept(False)
