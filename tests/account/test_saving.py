"""What autograd keeps, to the byte, against torch's own hooks on a real forward pass."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from convatlas.account import account
from convatlas.networks import NETWORKS, build


def kept_by_autograd(net: nn.Module, *inputs: Tensor) -> int:
    """Bytes of all storages that the forward saves, each once, those of parameters left out. All are held until the
    end, or the memory of one could be given to the next and pass for the same."""
    saved: dict[int, Any] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        saved.setdefault(storage._cdata, storage)
        return t

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = net(*inputs)
    owned = {p.untyped_storage()._cdata for p in net.parameters()}
    total = sum(s.nbytes() for place, s in saved.items() if place not in owned)
    del result
    return total


def assert_equal(net: nn.Module, *shapes: Sequence[int], device: str = "cpu") -> None:
    net.to(device)
    inputs = [torch.zeros(*s, device=device) for s in shapes]
    table = account(net, inputs)
    assert (table.totals.saved_bytes, table.uncounted) == (kept_by_autograd(net, *inputs), ())


# ---- Whole networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_catalogue(name: str, training: bool) -> None:
    """In evaluation on meta tensors batch normalisation keeps statistics that the CPU does not: a small real pass."""
    with torch.device("meta"):
        net = build(name).train(training)
    shape = (2, *NETWORKS[name].input)
    if training or not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules()):
        assert_equal(net, shape, device="meta")


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
def test_a_few_of_torchvision(name: str, training: bool) -> None:
    assert_equal(torchvision_net(name).train(training), (2, 3, SIZE.get(name, 64), SIZE.get(name, 64)))


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_torchvisions_classifiers(name: str, training: bool) -> None:
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
def test_timm_networks(name: str, training: bool) -> None:
    timm = pytest.importorskip("timm")
    net = timm.create_model(name, pretrained=False).train(training)
    fixed = {"xception": 299, "inception": 299}
    size = next((s for key, s in fixed.items() if name.startswith(f"legacy_{key}")), net.pretrained_cfg["input_size"][1])
    assert_equal(net, (2, 3, size, size))
