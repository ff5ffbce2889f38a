"""A network over a whole image of any size: its linear layers become convolutions of equal weights (VGG, section 3.2).

The class scores of all places are averaged before softmax, as the paper has it. A network that ends with global average
pooling takes larger images as it is: its last linear layer's mean over places is that layer of the mean.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...errors import UsageError
from ...layers import Whiten, WithHeads
from ...networks.fractalnet import FractalNet

ADVICE = "use the test view center or ten-crop"


class FullyConvolutional(nn.Module):
    """Maps by `body`, the first linear layer as a convolution, the rest at each place. (N,C,H,W) -> (N,classes)

    The modules are those of the network itself and nothing is copied, but where pooling to a fixed size is folded into
    the weights.
    """

    def __init__(self, body: Sequence[nn.Module], weight: Tensor, bias: Tensor | None, rest: Sequence[nn.Module]):
        super().__init__()
        self.body = nn.Sequential(*body)
        self.rest = nn.Sequential(*rest)
        self.weight, self.bias = weight, bias

    def scores(self, x: Tensor) -> Tensor:
        """Class scores at each place. (N,C,H,W) -> (N,classes,H',W')"""
        maps = nn.functional.conv2d(self.body(x), self.weight, self.bias)
        images, _, height, width = maps.shape
        rows = self.rest(maps.permute(0, 2, 3, 1).flatten(0, 2))
        return rows.unflatten(0, (images, height, width)).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(x).mean(dim=(2, 3))


def dense(net: nn.Module, input: tuple[int, int, int]) -> nn.Module:
    """The network for images of `input` (channels, height, width) and larger; in evaluation mode, like `net`.

    At `input` itself it answers like `net`. A fixed-size pooling before the first linear layer is slid at stride 1.
    Raises UsageError, one line, for a network that cannot be slid.
    """
    stages = _stages(net)
    if any(isinstance(stage, Whiten) for stage in stages):
        raise UsageError(f"the network cannot be slid over larger images: it whitens images of one size; {ADVICE}")
    flat = next((i for i, stage in enumerate(stages) if isinstance(stage, nn.Flatten)), None)
    if flat is None:
        raise UsageError(f"the network cannot be slid over larger images: no layer flattens its maps; {ADVICE}")
    body = [stage for stage in stages[:flat] if not isinstance(stage, nn.Dropout)]
    pool = body[-1] if body and isinstance(body[-1], nn.AdaptiveAvgPool2d) else None
    if pool is not None and _pair(pool.output_size) == (1, 1):
        _maps(nn.Sequential(*body), (input[0], 2 * input[1], 2 * input[2]))
        return net
    rest = [stage for stage in stages[flat + 1 :] if not isinstance(stage, nn.Dropout)]
    if not rest or not isinstance(rest[0], nn.Linear):
        raise UsageError(
            f"the network cannot be slid over larger images: no linear layer follows where its maps are flattened; "
            f"{ADVICE}"
        )
    linear = rest[0]
    if pool is not None:
        body.pop()
    chain = nn.Sequential(*body)
    maps, height, width = _maps(chain, input)
    _maps(chain, (input[0], 2 * input[1], 2 * input[2]))
    # Detached: an evaluation takes no gradient, and the parameters stay the network's.
    weight = linear.weight.detach()
    if pool is None:
        kernel = weight.view(-1, maps, height, width)
    else:
        tall, wide = _pair(pool.output_size, (height, width))
        kernel = _unpooled(weight.view(-1, maps, tall, wide), (height, width))
    bias = None if linear.bias is None else linear.bias.detach()
    return FullyConvolutional(body, kernel, bias, rest[1:])


def _stages(module: nn.Module) -> list[nn.Module]:
    """A chain's layers in order, chains within it opened; auxiliary heads are passed over, as in evaluation."""
    if type(module) is not nn.Sequential and not isinstance(module, WithHeads | FractalNet):
        return [module]
    heads = module.heads if isinstance(module, WithHeads) else {}
    return [stage for name, child in module.named_children() if name not in heads for stage in _stages(child)]


def _maps(body: nn.Module, input: tuple[int, int, int]) -> tuple[int, int, int]:
    """Channels, height and width that come out, found without arithmetic. Raises UsageError where nothing does."""
    tensors = {**dict(body.named_parameters()), **dict(body.named_buffers())}
    shadows = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    try:
        with torch.inference_mode():
            out = functional_call(body, shadows, (torch.empty(1, *input, device="meta"),))
    except RuntimeError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        size = "x".join(map(str, input))
        raise UsageError(f"the network cannot be slid over larger images: at {size}: {reason}; {ADVICE}") from None
    channels, height, width = out.shape[1:]
    return channels, height, width


def _pair(size: object, else_: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """A pooling's output size as two numbers; None in it is the map's own."""
    tall, wide = size if isinstance(size, tuple | list) else (size, size)
    return (else_[0] if tall is None else int(tall), else_[1] if wide is None else int(wide))


def _unpooled(weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Weights on averaged maps as weights on the maps themselves. (out,C,h,w) -> (out,C,*size)"""
    tall, wide = weight.shape[2:]
    if (tall, wide) == size:
        return weight
    rows, columns = (_averages(have, want).to(weight) for have, want in zip(size, (tall, wide), strict=True))
    return torch.einsum("ocij,ih,jw->ochw", weight, rows, columns).contiguous()


def _averages(have: int, want: int) -> Tensor:
    """What AdaptiveAvgPool2d does along one side: from floor(i have/want) to ceil((i+1) have/want). (want,have)"""
    matrix = torch.zeros(want, have)
    for i in range(want):
        start, end = i * have // want, -(-(i + 1) * have // want)
        matrix[i, start:end] = 1 / (end - start)
    return matrix
