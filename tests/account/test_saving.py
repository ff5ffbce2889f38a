"""What autograd keeps, to the byte, against torch's own hooks on a real forward pass."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.account import account
from convatlas.networks import NETWORKS, build

Check = Callable[..., None]


@pytest.fixture
def assert_equal(kept_by_autograd: Callable[..., int]) -> Check:
    def check(net: nn.Module, *shapes: Sequence[int], device: str = "cpu") -> None:
        net.to(device)
        inputs = [torch.zeros(*s, device=device) for s in shapes]
        table = account(net, inputs)
        assert (table.totals.saved_bytes, table.uncounted) == (kept_by_autograd(net, *inputs), ())

    return check


# ---- Whole networks -------------------------------------------------------------------------------------------------


DEEP = {name for name in NETWORKS if "1202" in name}  # seconds each


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEEP)) for n in NETWORKS])
def test_networks_of_the_catalogue(
    name: str, training: bool, steady: Callable[[nn.Module], nn.Module], assert_equal: Check
) -> None:
    """On meta tensors, whose batch normalisation in evaluation keeps statistics that the CPU does not."""
    with torch.device("meta"):
        net = steady(build(name).train(training))
    if training or not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules()):
        assert_equal(net, (2, *NETWORKS[name].input), device="meta")


CLASSIFIERS = """alexnet vgg11 vgg13_bn vgg19 googlenet inception_v3 resnet18 resnet50 resnext50_32x4d wide_resnet50_2
densenet121 squeezenet1_0 squeezenet1_1 mobilenet_v2 mobilenet_v3_small mobilenet_v3_large efficientnet_b0
efficientnet_b3 efficientnet_v2_s shufflenet_v2_x0_5 shufflenet_v2_x1_0 convnext_tiny mnasnet0_5 mnasnet1_3
regnet_y_400mf regnet_x_800mf vit_b_16 vit_b_32 swin_t swin_v2_t maxvit_t""".split()  # noqa: SIM905
FEW = ("alexnet", "resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1")


def torchvision_net(name: str) -> nn.Module:
    from torchvision import models

    return models.get_model(name, weights=None, **({"init_weights": False} if name in GIVEN else {}))


GIVEN = ("googlenet", "inception_v3")
SIZE = {"inception_v3": 299, "alexnet": 224, "vit_b_16": 224, "vit_b_32": 224, "maxvit_t": 224}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", FEW)
def test_a_few_of_torchvision(name: str, training: bool, assert_equal: Check) -> None:
    assert_equal(torchvision_net(name).train(training), (2, 3, SIZE.get(name, 64), SIZE.get(name, 64)))


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_torchvisions_classifiers(name: str, training: bool, assert_equal: Check) -> None:
    size = SIZE.get(name, 96)
    assert_equal(torchvision_net(name).train(training), (2, 3, size, size))


TIMM = """
resnet50 resnetv2_50 nf_resnet50 seresnet50 skresnet18 ecaresnet26t resnest14d res2net50_26w_4s densenet121
inception_v4 inception_resnet_v2 inception_next_tiny xception41 legacy_xception dla34 hrnet_w18_small mixnet_s
efficientnet_b0 tf_efficientnetv2_b0 mobilenetv2_100 mobilenetv3_large_100 mobilenetv4_conv_small ghostnet_100
rexnet_100 regnetx_004 regnety_004 repvgg_a0 cspdarknet53 vovnet39a selecsls42 convnext_atto convnextv2_atto
vgg11_bn vgg16 vit_tiny_patch16_224 deit_tiny_patch16_224 cait_xxs24_224 crossvit_tiny_240 beit_base_patch16_224
mixer_s32_224 gmlp_s16_224 resmlp_12_224 poolformer_s12 swin_tiny_patch4_window7_224 swinv2_tiny_window8_256
convmixer_768_32 coatnet_0_rw_224 levit_128s mobilevit_s edgenext_xx_small pvt_v2_b0 xcit_nano_12_p16_224
maxvit_tiny_rw_224 tinynet_e lcnet_050 fbnetc_100 hardcorenas_a spnasnet_100 visformer_tiny twins_pcpvt_small
volo_d1_224 pit_ti_224 efficientformer_l1 focalnet_tiny_srf repghostnet_050
""".split()  # noqa: SIM905


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", TIMM)
def test_timm_networks(name: str, training: bool, assert_equal: Check) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model(name, pretrained=False).train(training)
    fixed = {"xception": 299, "inception": 299}
    size = next(
        (s for key, s in fixed.items() if name.startswith(f"legacy_{key}")), net.pretrained_cfg["input_size"][1]
    )
    assert_equal(net, (2, 3, size, size))


# ---- By hand --------------------------------------------------------------------------------------------------------


def saved(net: nn.Module, *shape: int) -> list[tuple[str, int]]:
    return [(r.op, r.saved_bytes) for r in account(net, shape).rows]


def test_a_plain_stack_in_training() -> None:
    """The convolution keeps the image; batch norm its input, running and batch statistics; ReLU its output, which
    overwrote batch norm's; max pooling finds that kept, and adds int64 indices; dropout its mask."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True), nn.MaxPool2d(2), nn.Flatten(),
                        nn.Dropout(), nn.Linear(128, 10))  # fmt: skip
    image, maps, pooled = 4 * 2 * 3 * 64, 4 * 2 * 8 * 64, 2 * 8 * 16
    assert saved(net, 2, 3, 8, 8) == [
        ("conv2d", image), ("batch_norm", maps + 4 * 4 * 8), ("relu", maps), ("max_pool2d", 8 * pooled),
        ("dropout", 4 * pooled), ("linear", 4 * pooled),
    ]  # fmt: skip
    assert saved(net.eval(), 2, 3, 8, 8)[1:] == [
        ("batch_norm", maps + 2 * 4 * 8), ("relu", maps), ("max_pool2d", 8 * pooled), ("linear", 4 * pooled),
    ]  # fmt: skip


def test_frozen_parameters_keep_nothing(assert_equal: Check) -> None:
    net = torchvision_net("resnet18").train()
    for name, p in net.named_parameters():
        p.requires_grad_(name.startswith(("layer3.1", "fc")))
    table = account(net, (2, 3, 64, 64))
    assert {r.path.split(".")[0] for r in table.rows if r.saved_bytes} == {"layer3", "layer4", "fc"}
    assert_equal(net, (2, 3, 64, 64))
    assert account(net.requires_grad_(False), (2, 3, 64, 64)).totals.saved_bytes == 0


def test_what_runs_without_gradients_keeps_nothing(assert_equal: Check) -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(3, 3, 3) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.a(x).relu()
            return self.c(self.b(x).detach())

    assert_equal(Frozen(), (2, 3, 9, 9))
    assert [b for _, b in saved(Frozen(), 2, 3, 9, 9)] == [0, 0, 4 * 2 * 3 * 49, 4 * 2 * 3 * 25]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(mode: Callable[[], AbstractContextManager[None]]) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3))
    with mode():
        table = account(net, (3, 9, 9))
    assert table == account(net, (3, 9, 9))
    assert table.totals.saved_bytes == 4 * (3 * 81 + 4 * 49 + 4 * 49)


def test_memory_that_several_show_counts_once(assert_equal: Check) -> None:
    """Queries, keys and values are parts of one tensor; a buffer and a view of it share theirs."""

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(8, 24)
            self.register_buffer("scale", torch.ones(2, 8))
            self.register_buffer("first", self.scale[0])

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x * self.scale[1]).view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
            x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 5, 8)
            return x * self.first * self.scale[1] * self.qkv.bias[:8]

    assert_equal(Attend(), (2, 5, 8))


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("weights", [True, False])
def test_multi_head_attention(heads: int, weights: bool, assert_equal: Check) -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, heads, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=weights)[0]

    assert_equal(nn.Sequential(nn.Linear(8, 8), Attend(), nn.Linear(8, 8)), (2, 5, 8))


@pytest.mark.parametrize("format", [torch.channels_last, torch.contiguous_format])
def test_channels_last(format: torch.memory_format, assert_equal: Check) -> None:
    class Turned(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 2, 3, 1)

    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=8), nn.SiLU(),
        Turned(), nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU(),
    )  # fmt: skip
    assert_equal(net.to(memory_format=format), (2, 3, 16, 16))


def test_a_function_without_a_rule_is_measured(assert_equal: Check, kept_by_autograd: Callable[..., int]) -> None:
    class Spectrum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.rfft2(x).abs().square()

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Spectrum(), nn.Conv2d(4, 4, 1))
    table = account(net, (2, 3, 10, 10))
    assert table.uncounted == ("torch.fft.rfft2",)
    assert table.totals.saved_bytes == kept_by_autograd(net, torch.zeros(2, 3, 10, 10))
