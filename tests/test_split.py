"""AlexNet on two devices: the same answers and gradients, what crosses counted in three ways, weights in and out."""

from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from convatlas.errors import BadInput
from convatlas.networks import build
from convatlas.networks.alexnet import alexnet
from convatlas.split import Cross, Split, split

CPUS = ("cpu", "cpu")
# Values of one image that go over, by Figure 2: halves of 128x13x13, 128x6x6 and 2048 both ways, and 2048 to fc8 once.
VALUES = {"conv3": 2 * 128 * 13 * 13, "fc6": 2 * 128 * 6 * 6, "fc7": 2 * 2048, "fc8": 2048}


def disturbed(size: tuple[int, int], classes: int = 10) -> nn.Sequential:
    """With weights by which the logits depend on the image, and no dropout."""
    net = build("alexnet", classes=classes, input=size)
    generator = torch.Generator().manual_seed(0)
    for p in net.state_dict().values():
        p.normal_(0, (2 / p[0].numel()) ** 0.5 if p.dim() > 1 else 0.3, generator=generator)
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return net


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_logits_equal_one_devices() -> None:
    net = disturbed((227, 227), 1000).eval()
    both = split(net, CPUS)
    assert not both.training
    x = images(2, 3, 227, 227)
    with torch.no_grad():
        expected, found = net(x), both(x)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_gradients_equal_one_devices_in_training() -> None:
    net = disturbed((99, 67)).double()
    both = split(net, CPUS)
    assert both.training
    x, labels = images(3, 3, 99, 67).double(), torch.tensor([1, 5, 9])
    for each in (net, both):
        nn.functional.cross_entropy(each(x), labels).backward()
    grads = [{n: p.grad for n, p in tower.named_parameters()} for tower in both.towers]
    for name, p in net.named_parameters():
        assert p.grad is not None and p.grad.any()
        found = torch.cat([g[name] for g in grads if name in g])
        torch.testing.assert_close(found, p.grad, rtol=1e-9, atol=1e-12)


def test_each_device_holds_half() -> None:
    """48, 128, 192, 192 and 128 kernels and 2048 neurons a device (Figure 2); the 1000 outputs on the second."""
    with torch.device("meta"):
        towers = split(alexnet(), ("meta", "meta")).towers
    first, second = ({n: tuple(p.shape) for n, p in t.named_parameters() if n.endswith("weight")} for t in towers)
    assert first == {
        "conv1.conv.weight": (48, 3, 11, 11),
        "conv2.conv.weight": (128, 48, 5, 5),
        "conv3.conv.weight": (192, 256, 3, 3),
        "conv4.conv.weight": (192, 192, 3, 3),
        "conv5.conv.weight": (128, 192, 3, 3),
        "fc6.linear.weight": (2048, 9216),
        "fc7.linear.weight": (2048, 4096),
    }
    assert second == first | {"fc8.weight": (1000, 4096)}


def test_dropout_is_drawn_on_each_device_in_training() -> None:
    both = split(build("alexnet", classes=2, input=(67, 67)), CPUS)
    seen: list[Tensor] = []
    for tower in both.towers:
        tower.fc6.register_forward_hook(lambda _module, _given, out: seen.append(out))
    x = images(4, 3, 67, 67)
    both(x)
    for half in seen:
        assert 0.4 < (half == 0).double().mean() < 0.6
    assert not torch.equal(seen[0] == 0, seen[1] == 0)
    both.eval()(x)
    assert (seen[2] == 0).double().mean() < 0.1


def test_merged_weights_are_exact_before_and_after_a_step() -> None:
    net = disturbed((67, 67))
    both = split(net, CPUS)
    merged = both.merge()
    assert list(merged) == list(net.state_dict())
    assert all(torch.equal(merged[n], v) for n, v in net.state_dict().items())
    optimiser = torch.optim.SGD(both.parameters(), lr=0.1)
    both(images(2, 3, 67, 67)).square().mean().backward()
    optimiser.step()
    assert all(torch.equal(merged[n], v) for n, v in net.state_dict().items())  # nothing is shared with the original
    net.load_state_dict(both.merge())
    assert not torch.equal(net.fc8.weight, merged["fc8.weight"])
    x = images(2, 3, 67, 67)
    torch.testing.assert_close(both.eval()(x), net.eval()(x), rtol=0, atol=1e-5)


def test_traffic_by_the_formula() -> None:
    net = disturbed((227, 227))
    both = split(net, CPUS)
    single = {layer: 4 * values for layer, values in VALUES.items()}
    assert both.traffic() == single | {"total": 234_496}
    assert both.traffic(batch=128) == {layer: 128 * n for layer, n in (single | {"total": 234_496}).items()}
    assert split(net.double(), CPUS).traffic()["total"] == 2 * 234_496


def test_traffic_counts_each_copy_that_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[int] = []
    send = Cross.send

    def counted(self: Cross, half: Tensor, device: torch.device) -> Tensor:
        copies.append(half.element_size() * prod(half.shape))
        return send(self, half, device)

    monkeypatch.setattr(Cross, "send", counted)
    both = split(disturbed((67, 99)), CPUS).eval()
    both(images(3, 3, 67, 99))
    assert len(copies) == 7
    made = sum(copies)
    assert both.traffic(batch=3, input=(67, 99))["total"] == made


class Copies(TorchDispatchMode):
    """What an operation gives on another device than its input's: [(from, to, shape)]"""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, str, tuple[int, ...]]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and args and isinstance(args[0], Tensor) and args[0].device != out.device:
            self.made.append((str(args[0].device), str(out.device), tuple(out.shape)))
        return out


def test_nothing_else_crosses_between_two_gpus() -> None:
    """On two GPUs that PyTorch only pretends to have, where an operation on tensors of both is refused."""
    copies = Copies()
    with FakeTensorMode(), torch.no_grad():
        both = split(alexnet().eval(), ("cuda:0", "cuda:1"))
        places = [{str(p.device) for p in tower.parameters()} for tower in both.towers]
        x = torch.empty(2, 3, 227, 227)
        with copies:
            y = both(x)
        traffic = both.traffic(batch=2)
        merged = {str(v.device) for v in both.merge().values()}
    assert places == [{"cuda:0"}, {"cuda:1"}]
    assert str(y.device) == "cuda:1"
    assert merged == {"cuda:0"}
    up, down = ("cuda:1", "cuda:0"), ("cuda:0", "cuda:1")
    images_in = [("cpu", "cuda:0", (2, 3, 227, 227)), ("cpu", "cuda:1", (2, 3, 227, 227))]
    conv3 = [(*way, (2, 128, 13, 13)) for way in (up, down)]
    fc6 = [(*way, (2, 128, 6, 6)) for way in (up, down)]
    fc7 = [(*way, (2, 2048)) for way in (up, down)]
    assert copies.made == [*images_in, *conv3, *fc6, *fc7, (*down, (2, 2048))]
    assert traffic["total"] == sum(4 * prod(shape) for _, _, shape in copies.made[2:])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_logits_equal_one_devices_on_two_gpus() -> None:
    net = disturbed((227, 227)).eval()
    both = split(net, ("cuda:0", "cuda:1"))
    x = images(2, 3, 227, 227)
    with torch.no_grad():
        torch.testing.assert_close(both(x).cpu(), net(x), rtol=0, atol=1e-3)


def test_counting_traffic_leaves_the_network_and_the_random_state_as_they_were() -> None:
    both = split(build("alexnet", classes=2, input=(67, 67)), CPUS)
    both.towers[0].fc6.eval()
    modes = [m.training for m in both.modules()]
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    both.traffic(input=(67, 67))
    assert torch.equal(torch.rand(3), expected)
    assert [m.training for m in both.modules()] == modes
    assert all(p.grad is None for p in both.parameters())


def test_frozen_weights_stay_frozen_and_types_stay() -> None:
    net = build("alexnet", classes=2, input=(67, 67)).bfloat16()
    net.conv1.requires_grad_(False)
    both = split(net, CPUS)
    assert {n for n, p in both.named_parameters() if not p.requires_grad} == {
        f"towers.{t}.conv1.conv.{kind}" for t in (0, 1) for kind in ("weight", "bias")
    }
    assert {p.dtype for p in both.parameters()} == {torch.bfloat16}


def test_refusals() -> None:
    own = "give one that build('alexnet') made"
    with torch.device("meta"):
        net, wider = alexnet(), alexnet()
        wider.fc7.linear = nn.Linear(4096, 4096, bias=False)
        others = {name: build(name) for name in ("alexnet_one_tower", "alexnet_owt", "alexnet_bn", "zfnet", "resnet18")}
        both = split(net, ("meta", "meta"))
    for other in (*others.values(), wider, nn.Sequential()):
        refused(lambda other=other: split(other, CPUS), f"Sequential has not alexnet's layers; {own}")
    refused(lambda: split(nn.Linear(2, 2), CPUS), f"Linear has not alexnet's layers; {own}")
    two = "are not two devices; give two, as in ('cuda:0', 'cuda:1')"
    refused(lambda: split(net, ("cpu",)), f"('cpu',) {two}")  # type: ignore[arg-type]
    refused(lambda: split(net, "cpu"), f"'cpu' {two}")  # type: ignore[arg-type]
    refused(lambda: split(net, ("cpu", "gpu")), "device 'gpu' is not on this machine; give one that is, such as 'cpu'")
    size = "give a batch of 1 or more and the height and width that the network was built for"
    refused(lambda: both.traffic(input=(67, 67)), f"no pass of 1 images of 67x67; {size}")
    refused(lambda: both.traffic(batch=0), f"no pass of 0 images of 227x227; {size}")


def refused(call, text: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput) as refusal:
        call()
    assert str(refusal.value) == text


def test_split_is_a_module_that_counts_as_alexnet() -> None:
    """The same multiply-adds and parameters as on one device, by the account."""
    from convatlas.account import account

    with torch.device("meta"):
        both: Split = split(alexnet().eval(), ("meta", "meta"))
    totals = account(both, (3, 227, 227)).totals
    assert (totals.params, totals.macs) == (60_965_224, 724_406_816)
