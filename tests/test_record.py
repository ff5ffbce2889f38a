"""Dataclasses as JSON and back, and fields changed by their text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.errors import BadRecipe, UnknownName
from convatlas.paper import Published, Recipe
from convatlas.record import changed, from_json, to_json

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.builds(Recipe, lr=finite, momentum=finite, drops=st.tuples(finite, finite), augment=st.tuples(st.text())))
def test_json_round_trip(recipe: Recipe) -> None:
    assert from_json(Recipe, to_json(recipe)) == recipe


def test_a_wrong_type_is_named() -> None:
    with pytest.raises(ValueError, match=r"Expected `int`, got `str` - at `\$\.batch`"):
        from_json(Recipe, '{"batch": "many"}')


def test_fields_are_read_by_their_types() -> None:
    new = changed(
        Recipe(epochs=3), ["lr=0.05", "drops=30,60", "size=112", "epochs=none", "augment=flip", "batch=7"], "recipe"
    )
    assert (new.lr, new.drops, new.size, new.epochs, new.augment, new.batch) == (
        0.05,
        (30, 60),
        112,
        None,
        ("flip",),
        7,
    )


def test_dashes_stand_for_underscores_and_an_empty_tuple_can_be_given() -> None:
    assert changed(Recipe(), ["weight-decay=1e-4"], "recipe").weight_decay == 1e-4
    assert changed(Recipe(augment=("flip",)), ["augment="], "recipe").augment == ()


@pytest.mark.parametrize(
    ("setting", "kind", "message"),
    [
        ("lr=fast", BadRecipe, "recipe field lr cannot be 'fast'; give a number"),
        (
            "schedule=linear",
            BadRecipe,
            "recipe field schedule cannot be 'linear'; "
            "give one of constant, steps, plateau, polynomial, exponential, cosine",
        ),
        ("batch=1.5", BadRecipe, "recipe field batch cannot be '1.5'; give a whole number"),
        ("size=big", BadRecipe, "recipe field size cannot be 'big'; give a whole number or none"),
        ("drops=a", BadRecipe, "recipe field drops cannot be 'a'; give a number, or several separated by commas"),
        ("lr", BadRecipe, "--set 'lr' has no value; write field=value, for example --set lr=0.05"),
        ("momentun=0.9", UnknownName, "no recipe field named 'momentun'; did you mean momentum?"),
    ],
)
def test_what_a_field_cannot_be(setting: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        changed(Recipe(), [setting], "recipe")
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("printed", "value", "half"), [("3.8e9", 3.8e9, 0.05e9), ("60000", 60000, 0.5), ("6.43", 6.43, 0.005)]
)
def test_the_precision_of_a_printed_figure_follows_from_how_it_is_written(
    printed: str, value: float, half: float
) -> None:
    figure = Published("x", "macs", printed, "Table 1")
    assert figure.value == value
    assert figure.half == pytest.approx(half, rel=1e-12)
