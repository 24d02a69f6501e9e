"""Networks of other code bases, small, with the names of modules that theirs have; from their definitions alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS = (64, 128, 256, 512)


def shaken(network: nn.Module) -> nn.Module:
    """Weights and statistics that are not the initial ones, in evaluation mode."""
    generator = torch.Generator().manual_seed(5)
    ranges = {"running_var": (0.5, 2), "weight": (0.5, 1.5), "mean_weight": (-2, 2), "var_weight": (-2, 2)}
    for name, tensor in network.state_dict().items():
        if tensor.squeeze().dim() > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif tensor.is_floating_point():
            tensor.uniform_(*ranges.get(name.split(".")[-1], (-0.3, 0.3)), generator=generator)
    for module in network.modules():
        if isinstance(module, nn.PReLU):
            module.weight.data.uniform_(0, 0.5, generator=generator)
        if isinstance(module, SwitchArgmax):
            module.disagree(generator)
    return network.eval()


def conv(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)


class IBasicBlock(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(cin)
        self.conv1 = conv(cin, cout, 3)
        self.bn2 = nn.BatchNorm2d(cout)
        self.prelu = nn.PReLU(cout)
        self.conv2 = conv(cout, cout, 3, stride)
        self.bn3 = nn.BatchNorm2d(cout)
        self.downsample = (
            nn.Sequential(conv(cin, cout, 1, stride), nn.BatchNorm2d(cout)) if stride > 1 else nn.Sequential()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))) + self.downsample(x)


class IResNet(nn.Module):
    """arcface_torch's iresnet."""

    def __init__(self, units: Sequence[int], side: int, dim: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = conv(3, 64, 3), nn.BatchNorm2d(64), nn.PReLU(64)
        cin = 64
        for stage, (count, width) in enumerate(zip(units, WIDTHS, strict=True), start=1):
            blocks = [IBasicBlock(cin if i == 0 else width, width, 2 if i == 0 else 1) for i in range(count)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            cin = width
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * side * side, dim)
        self.features = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(torch.flatten(self.bn2(x), 1)))


class Layers(nn.Module):
    """arcface_torch's MobileFaceNet wraps everything in a module with one child, `layers`."""

    def __init__(self, *layers: nn.Module, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


def conv_block(cin: int, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> Layers:
    return Layers(conv(cin, cout, kernel, stride, groups), nn.BatchNorm2d(cout), nn.PReLU(cout))


def depthwise(cin: int, cout: int, expanded: int, residual: bool) -> Layers:
    return Layers(
        conv_block(cin, expanded),
        conv_block(expanded, expanded, 3, 1 if residual else 2, expanded),
        Layers(conv(expanded, cout, 1), nn.BatchNorm2d(cout)),
        residual=residual,
    )


def residual(channels: int, expanded: int, count: int) -> Layers:
    return Layers(*(depthwise(channels, channels, expanded, True) for _ in range(count)))


class MobileFaceNet(nn.Module):
    """arcface_torch's mbf (first of `blocks` 1) and mbf_large."""

    def __init__(self, blocks: Sequence[int], scale: int, dim: int, side: int = 7) -> None:
        super().__init__()
        a, b = 64 * scale, 128 * scale
        stem = conv_block(a, a, 3, groups=64) if blocks[0] == 1 else residual(a, 128, blocks[0])
        self.layers = nn.ModuleList(
            [
                conv_block(3, a, 3, 2),
                stem,
                depthwise(a, a, 128, False),
                residual(a, 128, blocks[1]),
                depthwise(a, b, 256, False),
                residual(b, 256, blocks[2]),
                depthwise(b, b, 512, False),
                residual(b, 256, blocks[3]),
            ]
        )
        self.conv_sep = conv_block(b, 512)
        whole = nn.Conv2d(512, 512, side, groups=512, bias=False)
        self.features = Layers(
            Layers(whole, nn.BatchNorm2d(512)), nn.Flatten(), nn.Linear(512, dim, bias=False), nn.BatchNorm1d(dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.features(self.conv_sep(x))


class ViTBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim, bias=False), "proj": nn.Linear(dim, dim)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(dim, 4 * dim), "fc2": nn.Linear(4 * dim, dim)})

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.attn["qkv"](self.norm1(x)).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * (dim // self.heads) ** -0.5).softmax(-1)
        x = x + self.attn["proj"]((weights @ v).transpose(1, 2).reshape(batch, tokens, dim))
        return x + self.mlp["fc2"](F.relu6(self.mlp["fc1"](self.norm2(x))))


class ViT(nn.Module):
    """arcface_torch's VisionTransformer."""

    def __init__(self, dim: int, depth: int, heads: int, out: int, patches: int = 144) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, 9, 9)})
        self.pos_embed = nn.Parameter(torch.randn(1, patches, dim))
        self.mask_token = nn.Parameter(torch.randn(1, 1, dim))
        self.blocks = nn.ModuleList([ViTBlock(dim, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.feature = nn.Sequential(
            nn.Linear(dim * patches, dim, bias=False),
            nn.BatchNorm1d(dim, eps=2e-5),
            nn.Linear(dim, out, bias=False),
            nn.BatchNorm1d(out, eps=2e-5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.feature(self.norm(x).flatten(1))


class SwitchNorm(nn.Module):
    """Switchable-Normalization's layer in evaluation; `argmax` takes the statistic of the largest logit alone."""

    argmax = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.mean_weight, self.var_weight = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        self.register_buffer("running_mean", torch.zeros(1, channels, 1))
        self.register_buffer("running_var", torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        mean_in, var_in = flat.mean(2, keepdim=True), flat.var(2, keepdim=True)
        mean_ln = mean_in.mean(1, keepdim=True)
        var_ln = (var_in + mean_in**2).mean(1, keepdim=True) - mean_ln**2
        a, b = (self._shares(logits) for logits in (self.mean_weight, self.var_weight))
        mean = a[0] * mean_in + a[1] * mean_ln + a[2] * self.running_mean
        var = b[0] * var_in + b[1] * var_ln + b[2] * self.running_var
        return ((flat - mean) / (var + 2e-5).sqrt()).view_as(x) * self.weight + self.bias

    def _shares(self, logits: Tensor) -> Tensor:
        return F.one_hot(logits.argmax(), 3).float() if self.argmax else logits.softmax(0)


class SwitchArgmax(SwitchNorm):
    argmax = True

    def disagree(self, generator: torch.Generator) -> None:
        """Choices of mean and variance that are not both IN or both LN.

        Where they are, ours is torch's own norm, whose variance is the biased one: not the published formula.
        """
        while (mean := int(self.mean_weight.argmax())) == int(self.var_weight.argmax()) and mean < 2:
            self.var_weight.data.uniform_(-2, 2, generator=generator)


def batch_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=2e-5)


class SharedSlopeGate(nn.Module):
    """SE of the Switchable-Normalization code: no biases, a PReLU of one slope, spelt `pelu`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.pelu = nn.PReLU()
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(self.pelu(self.fc1(x.mean((2, 3), keepdim=True)))))


class SNBlock(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, norm, se: bool) -> None:
        super().__init__()
        self.norm1, self.conv1, self.norm2 = norm(cin), conv(cin, cout, 3), norm(cout)
        self.prelu = nn.PReLU()
        self.conv2, self.norm3 = conv(cout, cout, 3, stride), norm(cout)
        self.se = SharedSlopeGate(cout) if se else nn.Sequential()
        self.downsample = nn.Sequential(conv(cin, cout, 1, stride), norm(cout)) if stride > 1 else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm3(self.conv2(self.prelu(self.norm2(self.conv1(self.norm1(x))))))
        return self.prelu(self.se(inner) + self.downsample(x))


class SNResNet(nn.Module):
    """The face network of the Switchable-Normalization code."""

    def __init__(self, units: Sequence[int], side: int, dim: int, norm=batch_norm, se: bool = False) -> None:
        super().__init__()
        self.conv1, self.norm1, self.prelu = conv(3, 64, 3), norm(64), nn.PReLU()
        cin = 64
        for stage, (count, width) in enumerate(zip(units, WIDTHS, strict=True), start=1):
            blocks = [SNBlock(cin if i == 0 else width, width, 2 if i == 0 else 1, norm, se) for i in range(count)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            cin = width
        self.output_layer = nn.Sequential(
            norm(512), nn.Dropout(0.4), nn.Flatten(), nn.Linear(512 * side * side, dim), nn.BatchNorm1d(dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.norm1(self.conv1(x)))
        return F.normalize(self.output_layer(self.layer4(self.layer3(self.layer2(self.layer1(x))))))


class Gate(nn.Module):
    """SE with ReLU and no biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class BodyUnit(nn.Module):
    """Shortcut and `res_layer`: CVLface's, with a norm before the PReLU, or InsightFace_Pytorch's, without."""

    def __init__(self, cin: int, cout: int, stride: int, kind: str, se: bool) -> None:
        super().__init__()
        self.shortcut_layer = (
            nn.MaxPool2d(1, stride) if cin == cout else nn.Sequential(conv(cin, cout, 1, stride), nn.BatchNorm2d(cout))
        )
        middle = [nn.BatchNorm2d(cout)] if kind == "cvlface" else []
        inner = cout // 4
        if kind == "bottleneck":
            layers = [nn.BatchNorm2d(cin), conv(cin, inner, 1), nn.BatchNorm2d(inner), nn.PReLU(inner)]
            layers += [conv(inner, inner, 3), nn.BatchNorm2d(inner), nn.PReLU(inner), conv(inner, cout, 1, stride)]
        else:
            layers = [nn.BatchNorm2d(cin), conv(cin, cout, 3), *middle, nn.PReLU(cout), conv(cout, cout, 3, stride)]
        self.res_layer = nn.Sequential(*layers, nn.BatchNorm2d(cout))
        if se:
            self.res_layer.add_module("5" if kind == "insightface_pytorch" else "se_block", Gate(cout))

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class BodyNet(nn.Module):
    """IR and IR-SE of AdaFace, CVLface and InsightFace_Pytorch."""

    def __init__(self, units: Sequence[int], side: int, dim: int, kind: str, se: bool = False) -> None:
        super().__init__()
        widths = [4 * width for width in WIDTHS] if kind == "bottleneck" else WIDTHS
        self.input_layer = nn.Sequential(conv(3, 64, 3), nn.BatchNorm2d(64), nn.PReLU(64))
        blocks: list[nn.Module] = []
        cin = 64
        for count, width in zip(units, widths, strict=True):
            for i in range(count):
                blocks.append(BodyUnit(cin, width, 2 if i == 0 else 1, kind, se))
                cin = width
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(cin),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(cin * side * side, dim),
            nn.BatchNorm1d(dim, affine=kind == "insightface_pytorch"),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.body(self.input_layer(x)))
