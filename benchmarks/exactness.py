"""The account against torch's FlopCounterMode on other people's networks: parameters, and half of the FLOPs.

python benchmarks/exactness.py                 torchvision's classifiers and five of each of timm's families
python benchmarks/exactness.py --each 1000     all of timm's networks
python benchmarks/exactness.py --only swin_tiny_patch4_window7_224

Both sides walk on the meta device, in evaluation mode, one image at the network's own size. Gradients are on, or
torch's counter stops at multi-head attention. Attention is not fused on meta tensors, so it is counted.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.account import account

EACH = 5  # names of a family
LARGE = "large huge giant enormous xl 1b 3b 5b 7b 1280 2560".split()  # noqa: SIM905


@dataclass(frozen=True)
class Compared:
    name: str
    place: str  # the device that the network could be built on
    params: tuple[int, int]  # the account's, the network's
    macs: tuple[float, float]  # the account's, half of torch's FLOPs
    uncounted: tuple[str, ...]
    operators: frozenset[str]  # in which torch's counter found FLOPs
    seconds: tuple[float, float]  # the account, torch's counter

    @property
    def differences(self) -> list[str]:
        out = [f"not counted: {what}" for what in self.uncounted]
        for word, (ours, theirs) in (("parameters", self.params), ("MACs", self.macs)):
            if ours != theirs:
                out.append(f"{word} {ours:,} against {theirs:,.1f}")
        return out


def torchvision_names() -> list[str]:
    from torchvision import models

    return [f"torchvision:{name}" for name in models.list_models(module=models)]


def timm_names(each: int = EACH) -> list[str]:
    """Evenly spaced in the list of each family, the large variants last."""
    import timm

    out = []
    for family in timm.list_modules():
        every = timm.list_models(module=family)
        small = [n for n in every if not any(word in n for word in LARGE)]
        names = small if len(small) >= min(each, len(every)) else every
        count = min(each, len(names))
        out += [f"timm:{names[i * len(names) // count]}" for i in range(count)]
    return out


def build(name: str) -> tuple[nn.Module, tuple[int, ...], str]:
    """The network, its input, and the device that it was built on. Some constructors need values."""
    library, _, bare = name.partition(":")
    if library == "timm":
        import timm as source

        make, options = source.create_model, {"pretrained": False}
    else:
        from torchvision import models

        make, options = models.get_model, {"weights": None}
        if bare in ("googlenet", "inception_v3"):
            options["init_weights"] = False  # or truncated normals are drawn by scipy, for minutes
    try:
        with torch.device("meta"):
            net, place = make(bare, **options).eval(), "meta"
    except Exception:
        net, place = make(bare, **options).eval(), "cpu"
    if library == "timm":
        return net, tuple(net.pretrained_cfg["input_size"]), place
    size = 299 if bare == "inception_v3" else 224
    return net, (3, size, size), place


def compare(name: str) -> Compared:
    net, size, place = build(name)
    begin = time.perf_counter()
    table = account(net, size, name=name)
    between = time.perf_counter()
    with FlopCounterMode(display=False) as counter:
        net.to("meta")(torch.empty(1, *size, device="meta"))
    end = time.perf_counter()
    return Compared(
        name,
        place,
        (table.totals.params, sum(p.numel() for p in net.parameters())),
        (table.totals.macs, counter.get_total_flops() / 2),
        table.uncounted,
        frozenset(map(str, counter.get_flop_counts().get("Global", {}))),
        (between - begin, end - between),
    )


def compare_all(names: Sequence[str]) -> Iterator[Compared | tuple[str, str]]:
    """Each network's comparison, or its name and the reason for which there is none."""
    for name in names:
        try:
            yield compare(name)
        except Exception as error:
            yield name, f"{type(error).__name__}: {' '.join(str(error).split())}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=EACH, help="how many names of each of timm's families")
    parser.add_argument("--only", nargs="+", help="these networks, as torchvision:NAME, timm:NAME or timm's NAME")
    given = parser.parse_args()
    if given.only:
        names = [n if ":" in n else f"timm:{n}" for n in given.only]
    else:
        names = torchvision_names() + timm_names(given.each)
    verdicts: Counter[str] = Counter()
    operators: set[str] = set()
    seconds = [0.0, 0.0]
    for found in compare_all(names):
        if isinstance(found, tuple):
            verdicts["refused"] += 1
            print(f"{found[0]}: {found[1]}", flush=True)
            continue
        verdicts["differing" if found.params[0] != found.params[1] or found.macs[0] != found.macs[1] else "equal"] += 1
        verdicts["of them built on the CPU"] += found.place == "cpu"
        operators |= found.operators
        seconds = [a + b for a, b in zip(seconds, found.seconds, strict=True)]
        if found.differences:
            print(f"{found.name}: {'; '.join(found.differences)}", flush=True)
    print(f"{len(names)} networks: " + ", ".join(f"{count} {word}" for word, count in sorted(verdicts.items())))
    print(f"operators with FLOPs: {', '.join(sorted(operators))}")
    print(f"account {seconds[0]:.1f} s, torch's counter {seconds[1]:.1f} s")


if __name__ == "__main__":
    main()
