"""The panel of switches without a browser: what each control changes, and what is no model, y or z for it."""

import io

import pytest
import torch
from PIL import Image
from torch import nn

import alikit
from alikit import AlikitError, Game
from alikit.data.conditions import HAIR_COLOURS, switched
from alikit.data.synthetic.faces import ATTRIBUTES
from alikit.widgets import Switches

MALE, SMILING, BLACK, BLOND = (ATTRIBUTES.index(name) for name in ("Male", "Smiling", "Black_Hair", "Blond_Hair"))
Y = switched(torch.zeros(14), ["Male", "Black_Hair", "Young"], ATTRIBUTES)


@pytest.fixture(scope="module")
def model() -> Game:
    """Untrained, with weights large enough for each switch to change some pixels."""
    torch.manual_seed(0)
    model = alikit.RECIPES["faces-conditional"].build((3, 32, 32), attributes=14)
    for weight in model.decoder.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight)
    return model


@pytest.fixture
def panel(model) -> Switches:
    return Switches(model, ATTRIBUTES, Y)


@pytest.fixture
def passes(panel, monkeypatch) -> list[int]:
    """How many pictures each pass through the decoder made."""
    made, decode = [], panel.model.decode
    monkeypatch.setattr(panel.model, "decode", lambda z, **told: (made.append(len(z)), decode(z, **told))[1])
    return made


def shows(place, x: torch.Tensor) -> bool:
    """Whether a place shows this one picture (3, H, W), enlarged."""
    with Image.open(io.BytesIO(bytes(place.value))) as picture:
        seen = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        seen = seen.view(picture.height, picture.width, 3).permute(2, 0, 1) / 255
    scale = seen.shape[1] // x.shape[1]
    return torch.allclose(seen, x.repeat_interleave(scale, 1).repeat_interleave(scale, 2), atol=1 / 255)


def of(panel: Switches, y: torch.Tensor) -> torch.Tensor:
    return panel.model.decode(panel.z[None], y=y)[0]


def pressed(panel: Switches) -> list[str]:
    return [name for name, switch in zip(ATTRIBUTES, panel.switches, strict=True) if switch.value]


def test_what_it_begins_with(panel):
    assert panel.seed == 0 and panel.z.shape == (64,) and torch.equal(panel.y, Y.byte())
    assert shows(panel.picture, of(panel, Y))
    assert pressed(panel) == ["Black_Hair", "Male", "Young"]
    assert "Black Hair, Male, Young<br>z of seed 0" in panel.words.value
    assert not panel.message.value and panel.start.layout.display == panel.given.layout.display == "none"


def test_a_switch_changes_y_and_the_picture_in_place(panel, passes):
    place, z, before = panel.picture, panel.z, panel.picture.value
    panel.switches[SMILING].value = True
    assert passes == [15]
    assert panel.picture is place and panel.z is z and panel.picture.value != before
    assert torch.equal(panel.y, switched(Y, ["Smiling"], ATTRIBUTES).byte())
    assert shows(place, of(panel, panel.y)) and "Male, Smiling, Young" in panel.words.value
    panel.switches[SMILING].value = False
    assert panel.picture.value == before and passes[:2] == [15, 1]


def test_above_each_switch_is_what_it_leads_to(panel):
    for switch, preview in zip(panel.switches, panel.previews, strict=True):
        promised = preview.value
        y = panel.y
        switch.value = not switch.value
        x = of(panel, panel.y)
        panel.y = y
        assert preview.value == promised and shows(preview, x)


def test_hair_has_one_colour(panel, passes):
    panel.switches[BLOND].value = True
    assert passes == [15], "one pass, though two switches move"
    assert [name for name in pressed(panel) if name in HAIR_COLOURS] == ["Blond_Hair"]
    assert panel.y[BLACK] == 0 and panel.y[BLOND] == 1
    panel.switches[BLOND].value = False
    assert not set(pressed(panel)) & set(HAIR_COLOURS)


def test_what_is_on_is_told_by_more_than_a_colour(panel):
    male, smiling = panel.switches[MALE], panel.switches[SMILING]
    assert (male.description, male.button_style, smiling.description, smiling.button_style) == (
        *("✓ Male", "primary"),
        *("Smiling", ""),
    )
    smiling.value = True
    assert (smiling.description, smiling.button_style) == ("✓ Smiling", "primary")


def test_nothing_is_on(panel):
    panel.y = torch.zeros(14, dtype=torch.bool)
    assert not pressed(panel) and "nothing<br>z of seed 0" in panel.words.value


def test_another_z_and_back_to_the_first(panel, passes):
    before, z = panel.picture.value, panel.z
    panel.another.click()
    assert panel.seed == panel.number.value == 1 and panel.picture.value != before and not torch.equal(panel.z, z)
    panel.number.value = 0
    assert panel.seed == 0 and panel.picture.value == before
    panel.seed = 7
    assert panel.seed == panel.number.value == 7 and passes == [15, 15, 15]
    panel.number.value = panel.number.max
    panel.another.click()
    assert panel.seed == 0


def test_seeds_leave_torchs_chance_alone(panel):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    panel.another.click()
    assert torch.equal(torch.rand(1), expected)


def test_back_leaves_z(panel, passes):
    panel.another.click()
    before = panel.picture.value
    panel.switches[SMILING].value = True
    panel.switches[MALE].value = False
    del passes[:]
    panel.back.click()
    assert passes == [15] and panel.picture.value == before and panel.seed == 1 and torch.equal(panel.y, Y.byte())


def test_a_code_of_ones_own(model, panel):
    z = model.encode(torch.rand(1, 3, 32, 32), sample=False, y=Y)
    panel.z = z
    assert torch.equal(panel.z, z[0]) and panel.seed is None and "z as given" in panel.words.value
    assert shows(panel.picture, of(panel, Y)) and panel.given.layout.display is None
    assert shows(Switches(model, ATTRIBUTES, Y, z).picture, of(panel, Y))
    panel.another.click()
    assert panel.seed == 0, "the seed that stands there was not drawn before"
    panel.given.click()
    assert torch.equal(panel.z, z[0]) and panel.seed is None
    z += 1
    assert not torch.equal(panel.z, z[0]), "it is the panel's own"


def test_starts(model):
    starts = {"female, smiling": switched(Y, ["-Male", "Smiling"], ATTRIBUTES), "bald": torch.eye(14)[1]}
    panel = Switches(model, ATTRIBUTES, Y, starts=starts)
    assert panel.start.options == ("as given", "female, smiling", "bald") and panel.start.layout.display is None
    panel.start.value = "female, smiling"
    assert pressed(panel) == ["Black_Hair", "Smiling", "Young"] and shows(panel.picture, of(panel, panel.y))
    panel.switches[SMILING].value = False
    panel.back.click()
    assert pressed(panel) == ["Black_Hair", "Smiling", "Young"]
    panel.start.value = "as given"
    assert pressed(panel) == ["Black_Hair", "Male", "Young"]


def test_without_the_pictures_ahead(model, panel, passes):
    panel.ahead.value = False
    panel.switches[SMILING].value = True
    assert passes == [1, 1] and {preview.layout.display for preview in panel.previews} == {"none"}
    panel.ahead.value = True
    assert passes == [1, 1, 15] and {preview.layout.display for preview in panel.previews} == {None}
    del passes[:]
    Switches(model, ATTRIBUTES, Y, ahead=False)
    assert max(passes) == 1


def test_the_sheet_shows_every_switch(panel):
    sheet = panel.sheet()
    assert sheet.width > 130 + 2 * 64 and sheet.height > 14 * 64


def test_what_nobody_foresaw_is_a_message(panel, monkeypatch):
    monkeypatch.setattr("alikit.widgets.switches.grid", lambda *_, **__: 1 / 0)
    for act in (panel.another.click, lambda: setattr(panel.switches[SMILING], "value", True)):
        panel.say("")
        act()
        assert "ZeroDivisionError: division by zero" in panel.message.value
    monkeypatch.undo()
    panel.back.click()
    assert not panel.message.value


def test_a_model_that_is_told_nothing():
    with pytest.raises(AlikitError, match="this model is told nothing beside x"):
        Switches(alikit.RECIPES["digits"].build((1, 8, 8)), ATTRIBUTES, Y)


@pytest.mark.parametrize("names", [ATTRIBUTES[:13], (*ATTRIBUTES, "Tired"), ()])
def test_names_of_another_number(model, names):
    with pytest.raises(AlikitError, match=f"{len(names)} names for a model of 14 attributes"):
        Switches(model, names, Y)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (torch.zeros(13), "y is 14 numbers, each 0 or 1, and here are 13"),
        (torch.tensor(1.0), "y is 14 numbers, each 0 or 1, and here are 1"),
        (torch.full((14,), 0.5), "one that is neither"),
        (torch.full((14,), torch.nan), "one that is neither"),
        (torch.full((14,), -1), "one that is neither"),
        ("Smiling", "y is a tensor of 14 numbers"),
        (None, "y is a tensor of 14 numbers"),
    ],
)
def test_a_y_that_is_none(model, panel, wrong, complaint):
    with pytest.raises(AlikitError, match=complaint):
        Switches(model, ATTRIBUTES, wrong)
    with pytest.raises(AlikitError, match=f"bald: .*{complaint}"):
        Switches(model, ATTRIBUTES, Y, starts={"bald": wrong})
    before = panel.picture.value
    with pytest.raises(AlikitError, match=complaint) as error:
        panel.y = wrong
    assert "\n" not in str(error.value) and torch.equal(panel.y, Y.byte()) and panel.picture.value == before


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (torch.zeros(3), "a code of this model has 64 numbers, not 3"),
        (torch.zeros(2, 64), "a code of this model has 64 numbers, not 128"),
        (torch.full((64,), torch.nan), "no number"),
        (torch.full((64,), torch.inf), "no number"),
        ("z", "a code of this model is a tensor of 64 numbers"),
    ],
)
def test_a_z_that_is_none(model, panel, wrong, complaint):
    with pytest.raises(AlikitError, match=complaint):
        Switches(model, ATTRIBUTES, Y, wrong)
    z, before = panel.z, panel.picture.value
    with pytest.raises(AlikitError, match=complaint) as error:
        panel.z = wrong
    assert "\n" not in str(error.value) and panel.z is z and panel.seed == 0 and panel.picture.value == before


def test_points_are_no_pictures(model, monkeypatch):
    monkeypatch.setattr(model, "decode", lambda z, y: torch.zeros(len(z), 2))
    with pytest.raises(AlikitError, match="points"):
        Switches(model, ATTRIBUTES, Y)
