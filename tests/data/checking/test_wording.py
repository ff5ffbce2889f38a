"""How a check reads: every sentence, and lists that end in time."""

import dataclasses

import pytest

from convatlas.data import check
from convatlas.data.checking import Copy, Group, Leak, Misnamed, wording
from convatlas.data.decoding import BadFile


def remarks(**fields: object) -> list[str]:
    found = dataclasses.replace(check("digits"), source="photos", **fields)
    return found.as_text().split("Largest training class")[1].splitlines()[1:]


def copies(*images: str) -> tuple[Copy, ...]:
    return tuple(Copy(f"photos/{i}", i.split("/")[0], i.split("/")[1]) for i in images)


def test_groups_of_duplicates() -> None:
    seven = copies(*(f"train/{'cat' if i else 'dog'}/{i}.jpg" for i in range(7)))
    groups = (
        Group("file", ("train", "test"), ("cat",), copies("train/cat/1.jpg", "test/cat/2.jpg")),
        Group("near", ("train",), ("cat", "dog"), seven),
    )
    assert remarks(duplicates=groups) == [
        "There more than once: 2 groups, those across splits and classes first.",
        "  the same file:",
        "    train/cat/1.jpg",
        "    test/cat/2.jpg",
        "  looks the same:",
        "    train/dog/0.jpg (dog)",
        "    train/cat/1.jpg (cat)",
        "    train/cat/2.jpg (cat)",
        "    train/cat/3.jpg (cat)",
        "    and 3 more",
        "Every image can be read.",
    ]
    text = dataclasses.replace(check("digits"), duplicates=groups).as_text()
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "the same file 1 2 1 0" in rows and "looks the same 1 7 0 1" in rows


def test_what_deserves_a_look() -> None:
    assert remarks(
        misnamed=(Misnamed("photos/a.jpg", "PNG"), Misnamed("photos/b.jpg", "AVIF")),
        tiny=("photos/c.jpg",),
        plain=("photos/d.jpg",),
        positions=("photos/e.jpg",),
    ) == [
        "No image is there twice.",
        "Named like another format: 2 files; they are read all the same.",
        "  photos/a.jpg: a PNG",
        "  photos/b.jpg: an AVIF",
        "Much smaller than the others: 1 image.",
        "  photos/c.jpg",
        "Of practically one colour: 1 image.",
        "  photos/d.jpg",
        "EXIF tells where it was taken: 1 image; a bundle carries some images as they are, so clean them first if that "
        "must not be known.",
        "  photos/e.jpg",
        "Every image can be read.",
    ]


@pytest.mark.parametrize(
    ("n", "shown", "last"), [(10, 10, "9"), (11, 11, "10"), (12, 10, "and 2 more; --json lists all")]
)
def test_long_lists_are_cut(n: int, shown: int, last: str) -> None:
    lines = remarks(bad=tuple(BadFile(str(i), "the file is empty") for i in range(n)))
    assert lines[1] == f"Cannot be read: {n} of 1,797 ({100 * n / 1797:.1f} %)."
    listed = [line for line in lines if line.endswith(": the file is empty")]
    assert len(listed) == shown
    assert lines[-1].strip().removesuffix(": the file is empty") == last


def test_sentences_of_warnings() -> None:
    leak = Leak("test", "train", 3, 0)
    assert wording.leak(leak, {"test": 30}) == "test shares 3 of 30 (10.0 %) of its images with train: 3 identical"
    assert wording.conflict(False, 1) == "1 group of identical images has different labels"
    assert wording.conflict(True, 2) == "2 groups of images that look the same have different labels"
