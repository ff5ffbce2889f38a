"""Class names of several splits, and other tools' order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.data.classes import is_plain, natural, numbers, order_warning
from convatlas.errors import BadData

KNOWN = ("class 1", "class 2", "dress", "shirt", "t-shirt", "été")


@given(st.lists(st.sampled_from(KNOWN), unique=True))
def test_classes_are_matched_by_name(own: list[str]) -> None:
    assert [KNOWN[i] for i in numbers(own, KNOWN, "test", "train")] == own


@pytest.mark.parametrize(
    "own, said",
    [
        (["Shirt"], "test has 'Shirt' where train has 'shirt'"),
        (["dress", "T_Shirt"], "test has 'T_Shirt' where train has 't-shirt'"),
        (["ete"], "test has 'ete' where train has 'été'"),
        (["dresses"], "test has 'dresses' where train has 'dress'"),
        (["Dress", "shirt "], "test has 'Dress' where train has 'dress' and 'shirt ' where train has 'shirt'"),
    ],
)
def test_a_renamed_class_is_named(own: list[str], said: str) -> None:
    with pytest.raises(BadData) as caught:
        numbers(own, KNOWN, "test", "train")
    assert str(caught.value) == f"{said}; labels are matched by name, so give each class one name"


@pytest.mark.parametrize(
    "own, said",
    [
        (
            ["class 3"],
            "class 'class 3' of test is missing in train; labels are matched by name, so rename or remove it",
        ),
        (
            ["hat", "shoe"],
            "classes 'hat' and 'shoe' of test are missing in train; labels are matched by name, so rename or remove "
            "them",
        ),
        (
            ["bag", "cap", "hat", "shoe", "sock"],
            "classes 'bag', 'cap', 'hat' and 2 more of test are missing in train; labels are matched by name, so "
            "rename or remove them",
        ),
        # shirt is there too, so shirts is a class of its own
        (
            ["dress", "shirt", "shirts"],
            "class 'shirts' of test is missing in train; labels are matched by name, so rename or remove it",
        ),
    ],
)
def test_an_added_class_is_named(own: list[str], said: str) -> None:
    with pytest.raises(BadData) as caught:
        numbers(own, ("class 1", "class 2", "dress", "shirt"), "test", "train")
    assert str(caught.value) == said


def test_the_order_of_other_tools() -> None:
    from timm.data.readers.reader_image_folder import natural_key

    names = ["1", "10", "2", "B", "a", "b10", "b2"]
    assert sorted(names, key=natural) == sorted(names, key=natural_key)
    assert order_warning(names) == (
        "classes are in string order, '1' first; tools that sort naturally (timm) number 6 of them differently, so use "
        "the stored names"
    )
    assert order_warning(["a", "b"]) is None
    assert order_warning(["2", "1"]) is None  # an order that the set gives itself


@pytest.mark.parametrize(
    "name, plain", [("a b", True), ("衬衫 👕", True), ("", False), ("a\n", False), ("\udcff", False)]
)
def test_plain_names(name: str, plain: bool) -> None:
    assert is_plain(name) is plain
