"""The account against other tools' counts, in turns within one run.

    python benchmarks/account.py [--repeats N] [NETWORK ...]

Networks are torchvision's, built beforehand; the input is (1,3,224,224). What each tool gives differs: ours brings
shapes, parameters, MACs, activations and receptive fields a row; the counters bring counts by operation or module.
"""

import argparse
import io
import logging
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout

import torch
from harness import in_turns, machine_line, ratio, spread
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from convatlas.account import account

NETWORKS = ("resnet152", "vgg19", "googlenet", "densenet201")
OURS = "convatlas"


def build(name: str, device: str) -> nn.Module:
    options = {"init_weights": False} if name == "googlenet" else {}
    with torch.device(device):
        return models.get_model(name, weights=None, **options).eval()


def sides(name: str) -> dict[str, Callable[[], object]]:
    import torchinfo
    from fvcore.nn import FlopCountAnalysis
    from ptflops import get_model_complexity_info
    from thop import profile

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    meta, real = build(name, "meta"), build(name, "cpu")
    image = torch.empty(1, 3, 224, 224, device="meta")
    zeros = torch.zeros(1, 3, 224, 224)

    def by_torch() -> int:
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            meta(image)
        return counter.get_total_flops() // 2

    def by_torchinfo() -> object:
        return torchinfo.summary(meta, input_data=image, device="meta", verbose=0, cache_forward_pass=False)

    def by_torchinfo_with_values() -> object:
        return torchinfo.summary(real, input_data=zeros, device="cpu", verbose=0, cache_forward_pass=False)

    def by_ptflops() -> object:
        return get_model_complexity_info(real, (3, 224, 224), print_per_layer_stat=False, as_strings=False)

    return {
        OURS: lambda: account(meta, (3, 224, 224)).totals.macs,
        "torchinfo, meta": by_torchinfo,
        "fvcore, cpu": lambda: (
            FlopCountAnalysis(real, zeros).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
        ),
        "torchinfo, cpu": by_torchinfo_with_values,
        "ptflops, cpu": by_ptflops,
        "thop, cpu": lambda: profile(real, inputs=(zeros,), verbose=False),
        "FlopCounterMode, meta": by_torch,
    } | by_calflops(real)


def by_calflops(net: nn.Module) -> dict[str, Callable[[], object]]:
    """Where it is installed: it needs transformers, so it is no dependency of ours."""
    try:
        from calflops import calculate_flops
    except ImportError:
        return {}
    options = {"print_results": False, "output_as_string": False}
    return {"calflops, cpu": lambda: calculate_flops(net, input_shape=(1, 3, 224, 224), **options)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    print(f"{machine_line('torchinfo', 'fvcore')}\n{options.repeats} turns; milliseconds: median (quartiles)\n")
    print("| network | tool | ms | times ours |\n|---|---|--:|--:|")
    for name in options.networks:
        with redirect_stdout(io.StringIO()):
            times = in_turns(sides(name), options.repeats)
        for tool, values in times.items():
            times_ours = "" if tool == OURS else str(ratio(values, times[OURS]))
            print(f"| {name} | {tool} | {spread(values)} | {times_ours} |", flush=True)


if __name__ == "__main__":
    main()
