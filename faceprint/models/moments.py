"""Mean and variance of feature maps, and the one normalisation that all layers with moments of their own share.

Every norm here is y = scale (x - mean) + offset, `mean` and `var` being those of each image and channel over its
places, and `scale` and `offset` (B, C) computed from them: the moments of whole images, batches and groups of
processes are averages of these. So a layer reads its maps twice forward and twice backward, whatever it mixes, and all
else happens on (B, C).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from faceprint.distributed import gather_rows, rank, world_size
from faceprint.errors import UserError

Coefficients = Callable[..., tuple[Tensor, Tensor]]
"""`(mean (B, C), var (B, C), *parameters)` -> (scale, offset), both float32 and of a shape that expands to (B, C)."""


def pooled(mean: Tensor, var: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Moments over the union of equally large parts, given each part's; `dim` runs over the parts and is kept.

    var = average of (var_k + (mean_k - mean)^2): no difference of large numbers, as E[x^2] - E[x]^2 is.
    """
    total = mean.mean(dim, keepdim=True)
    return total, (var + (mean - total).square()).mean(dim, keepdim=True)


def over_images(
    mean: Tensor, var: Tensor, *, stat_group: int | None, sync: bool
) -> tuple[Tensor, Tensor, Tensor | float]:
    """Moments over images, from those of each: (B, C) -> (1, C), or (B, C) where the images form several groups.

    The third is the number of images that they are over.

    Without `stat_group` all images of this process are one group, with `sync` those of all processes. With it, a group
    is that many images of the whole batch in rank order, whatever the number of processes: part of this process's, or
    several processes' whole batches. Raises `UserError` where `stat_group` fits neither way.
    """
    images = len(mean)
    if stat_group is None:
        mean, var = pooled(mean, var, 0)
        return _over_processes(mean, var, images, world_size()) if sync else (mean, var, images)
    if images % stat_group == 0:
        groups = (images // stat_group, stat_group, mean.shape[1])
        mean, var = pooled(mean.view(groups), var.view(groups), 1)
        mean, var = (moment.expand(groups).reshape(images, -1) for moment in (mean, var))
        return mean, var, stat_group
    if stat_group % images or world_size() % (stat_group // images):
        raise UserError(
            f"stat_group={stat_group}: {world_size()} process(es) with {images} images each cannot be put together in"
            " groups of that size; choose a divisor of the images per process, or a multiple that divides the batch"
        )
    mean, var = pooled(mean, var, 0)
    return _over_processes(mean, var, images, stat_group // images)


def _over_processes(mean: Tensor, var: Tensor, images: int, processes: int) -> tuple[Tensor, Tensor, Tensor | float]:
    """Moments (1, C) over the images of `processes` neighbours in rank order, this one among them."""
    if world_size() == 1:
        return mean, var, images
    rows = gather_rows(torch.cat([mean, var, mean.new_full((1, mean.shape[1]), images)]))
    first = rank() // processes * processes
    means, variances, counts = rows[first : first + processes].unbind(1)
    share = counts / counts.sum(0)
    total = (share * means).sum(0, keepdim=True)
    var = (share * (variances + (means - total).square())).sum(0, keepdim=True)
    return total, var, counts[:, 0].sum()


def normalize(x: Tensor, coefficients: Coefficients, *parameters: Tensor) -> Tensor:
    """y = scale (x - mean) + offset for maps (B, C, H, W), in x's dtype; moments and coefficients are float32.

    `coefficients(mean, var, *parameters)` gives scale and offset from the moments of each image and channel (biased
    variance); gradients reach `x` and `parameters`.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        centred, mean, var = _centred(x)
        scale, offset = coefficients(mean, var, *parameters)
        return (centred * _maps(scale) + _maps(offset)).to(x.dtype)
    return _Normalize.apply(x, coefficients, *parameters)  # pyright: ignore[reportReturnType]


def shared_batch_norm(x: Tensor, layer: Any) -> Tensor:
    """Batch norm of a training step, over the images that `layer.sync` and `layer.stat_group` say: see `over_images`.

    Maps (B, C, H, W) -> the same. Normalises by the biased variance and moves `layer`'s running moments towards the
    unbiased one, as torch's `BatchNorm2d`.
    """
    places = x.shape[2] * x.shape[3]

    def coefficients(mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        batch_mean, batch_var, images = over_images(mean, var, stat_group=layer.stat_group, sync=layer.sync)
        values = images * places
        move_running(layer, batch_mean, batch_var * (values / (values - 1 + (values == 1))))
        scale = (weight * torch.rsqrt(batch_var + layer.eps)).expand_as(mean)
        return scale, bias + (mean - batch_mean) * scale

    return normalize(x, coefficients, layer.weight, layer.bias)


def move_running(layer: Any, mean: Tensor, var: Tensor) -> None:
    """Move `running_mean` and `running_var` of a layer towards a step's moments (groups, C), averaged over groups."""
    with torch.no_grad():
        layer.running_mean.lerp_(mean.detach().mean(0).to(layer.running_mean.dtype), layer.momentum)
        layer.running_var.lerp_(var.detach().mean(0).to(layer.running_var.dtype), layer.momentum)


def wide(x: Tensor) -> torch.dtype:
    """The type that sums over x are made in."""
    return torch.promote_types(x.dtype, torch.float32)


def _maps(values: Tensor) -> Tensor:
    return values[:, :, None, None]


def _centred(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean (B, C, H, W), mean (B, C), var (B, C)), float32, or float64 where x is."""
    mean = x.mean((2, 3), dtype=wide(x))
    centred = x - _maps(mean)
    return centred, mean, centred.square().mean((2, 3))


def _same(tensor: Tensor) -> Tensor:
    return tensor


class _Normalize(torch.autograd.Function):
    """Keeps x alone for the backward pass and computes x - mean again: memory is dearer than a subtraction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficients: Coefficients, *parameters: Tensor) -> Tensor:
        centred, mean, var = _centred(x)
        small = [tensor.detach().requires_grad_() for tensor in (mean, var, *parameters)]
        # The small graph keeps what it saves: hooks of an outer checkpoint would drop it and compute it again.
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(_same, _same):
            ctx.coefficients = coefficients(*small)
        scale, offset = (tensor.detach() for tensor in ctx.coefficients)
        ctx.small = small
        ctx.save_for_backward(x)
        return torch.addcmul(_maps(offset), centred, _maps(scale)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        (grad,) = grads
        scale, offset = ctx.coefficients
        mean = ctx.small[0].detach()
        places = x.shape[2] * x.shape[3]
        centred = x - _maps(mean)
        grad_sum = grad.sum((2, 3), dtype=wide(x))
        grad_scale = (grad * centred).sum((2, 3))
        by_mean, by_var, *by_parameters = torch.autograd.grad(
            (scale, offset),
            ctx.small,
            (grad_scale.sum_to_size(scale.shape), grad_sum.sum_to_size(offset.shape)),
            retain_graph=True,  # the outer graph may be kept for another backward pass
            allow_unused=True,
        )
        scale = scale.detach()
        constant = -scale * grad_sum if by_mean is None else by_mean - scale * grad_sum
        if by_var is not None:
            centred.mul_(_maps(by_var * (2 / places)))
            centred.addcmul_(grad, _maps(scale))
        else:
            centred = grad * _maps(scale)
        centred.add_(_maps(constant / places))
        return centred.to(x.dtype), None, *by_parameters
