"""Made-up answers of the degradation experiment."""

from convatlas.catalogue import catalogue
from convatlas.experiments.answers import Degradation, Errors, Family, Norms, Point, Trained
from convatlas.experiments.degradation import about_plain, about_residual, cut, layers
from convatlas.result import Machine

IMAGES = 10_000
PAPER = catalogue().recipes["resnet_cifar"]


def trained(family: Family, depth: int, wrong: int, norms: bool = True) -> Trained:
    network = f"{family}{depth}_cifar"
    learned = Errors(wrong, IMAGES)
    count = len(layers(network))
    values = tuple(0.1 * (i + 1) / count for i in range(count))
    return Trained(
        network=network,
        family=family,
        depth=depth,
        params=catalogue().entry(network).params,
        run=f"runs/{network}",
        recipe=cut(PAPER, 2),
        curve=tuple(Point(e, Errors(wrong * 3 // e, IMAGES), Errors(wrong * 2 // e, IMAGES)) for e in (1, 2)),
        training=learned,
        tested=Errors(wrong + 100, IMAGES),
        split="test",
        norms=tuple(Norms(e, values) for e in (1, 2)) if norms else (),
        epochs=2,
        seconds=60,
        when="2026-11-24T10:00:00+00:00",
    )


def found(plain: tuple[int, int], residual: tuple[int, int], data: str = "fashion", norms: bool = True) -> Degradation:
    """Of 10,000 training images so many wrong, by 20 layers and by 56."""
    pairs: tuple[tuple[Family, tuple[int, int]], ...] = (("plain", plain), ("resnet", residual))
    every = tuple(trained(f, d, w, norms) for f, wrong in pairs for d, w in zip((20, 56), wrong, strict=True))
    known = catalogue()
    made = Degradation(
        data=data,
        source=data,
        images={"train": IMAGES, "validation": 1000, "test": IMAGES},
        seed=0,
        paper=PAPER,
        trained=every,
        printed=tuple(p for t in every for p in known.printed(t.network) if p.metric in ("top1_error", "statement")),
        machine=Machine("Processor X", 2, 8_000_000_000, "Linux x86_64", "cpu", 2),
        versions={"torch": "2.14.1"},
        command=f"convatlas experiment degradation {data} --out runs",
    )
    from dataclasses import replace

    return replace(made, answer=(about_plain(made), about_residual(made)))
