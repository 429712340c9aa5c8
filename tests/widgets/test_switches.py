"""The panel of switches without a browser: what each control changes, and what is no model, y or z for it."""

import pytest
import torch
from test_panels import shows
from torch import nn

import alikit
from alikit import AlikitError, Game
from alikit.data.conditions import HAIR_COLOURS, switched
from alikit.data.synthetic.faces import ATTRIBUTES
from alikit.widgets import Switches

MALE, SMILING, BLOND = (ATTRIBUTES.index(name) for name in ("Male", "Smiling", "Blond_Hair"))
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
    monkeypatch.setattr(panel.model, "decode", lambda z, y: (made.append(len(z)), decode(z, y=y))[1])
    return made


def of(panel: Switches, y: torch.Tensor) -> torch.Tensor:
    return panel.model.decode(panel.z[None], y=y)[0]


def pressed(panel: Switches) -> list[str]:
    return [name for name, switch in zip(ATTRIBUTES, panel.switches, strict=True) if switch.value]


def test_what_it_begins_with(panel):
    assert panel.seed == 0 and panel.z.shape == (64,) and torch.equal(panel.y, Y.byte())
    assert shows(panel.picture, of(panel, Y)) and pressed(panel) == ["Black_Hair", "Male", "Young"]
    assert "Black Hair, Male, Young<br>z of seed 0" in panel.words.value
    assert not panel.message.value and panel.start.layout.display == panel.given.layout.display == "none"
    assert panel.sheet().width > 130 + 2 * 64 and panel.sheet().height > 14 * 64


def test_a_switch_changes_y_and_the_picture_in_place(panel, passes):
    place, z, before = panel.picture, panel.z, panel.picture.value
    switch = panel.switches[SMILING]
    assert (switch.description, switch.button_style) == ("Smiling", "")
    switch.value = True
    assert passes == [15] and panel.picture is place and panel.z is z and place.value != before
    assert torch.equal(panel.y, switched(Y, ["Smiling"], ATTRIBUTES).byte())
    assert shows(place, of(panel, panel.y)) and "Male, Smiling, Young" in panel.words.value
    assert (switch.description, switch.button_style) == ("✓ Smiling", "primary"), "more than a colour shows it"
    switch.value = False
    assert place.value == before


def test_above_each_switch_is_what_it_leads_to_and_hair_has_one_colour(panel, passes):
    for column in (0, SMILING, BLOND):
        switch, preview = panel.switches[column], panel.previews[column]
        promised = preview.value
        switch.value = not switch.value
        x = of(panel, panel.y)
        hair = [name for name in pressed(panel) if name in HAIR_COLOURS]
        assert hair == ["Blond_Hair" if column == BLOND else "Black_Hair"]
        panel.y = Y
        assert preview.value == promised and shows(preview, x)
    assert passes == [15, 1, 15] * 3, "one pass, though two switches move"
    panel.y = torch.zeros(14, dtype=torch.bool)
    assert not pressed(panel) and "nothing<br>z of seed 0" in panel.words.value


def test_another_z_and_back(panel, passes):
    before, state = panel.picture.value, torch.get_rng_state()
    panel.another.click()
    assert panel.seed == panel.number.value == 1 and panel.picture.value != before
    panel.number.value = panel.number.max
    panel.another.click()
    assert panel.seed == 0 and panel.picture.value == before and torch.get_rng_state().equal(state)
    panel.number.value = 7
    assert panel.seed == 7 and passes == [15] * 4
    before = panel.picture.value
    panel.switches[SMILING].value = True
    panel.switches[MALE].value = False
    panel.back.click()
    assert panel.picture.value == before and panel.seed == 7 and torch.equal(panel.y, Y.byte())


def test_a_code_of_ones_own(model, panel):
    z = model.encode(torch.rand(1, 3, 32, 32), sample=False, y=Y)
    panel.z = z
    assert torch.equal(panel.z, z[0]) and panel.seed is None and "z as given" in panel.words.value
    assert shows(panel.picture, of(panel, Y)) and panel.given.layout.display is None
    assert shows(Switches(model, ATTRIBUTES, Y, z).picture, of(panel, Y))
    panel.another.click()
    assert panel.seed == 0, "the seed in the panel was not drawn before"
    panel.given.click()
    assert torch.equal(panel.z, z[0]) and panel.seed is None
    z += 1
    assert not torch.equal(panel.z, z[0]), "it is the panel's own"


def test_starts(model):
    starts = {"female, smiling": switched(Y, ["-Male", "Smiling"], ATTRIBUTES), "none": torch.zeros(13)}
    panel = Switches(model, ATTRIBUTES, Y, starts=starts)
    assert panel.start.options == ("as given", "female, smiling", "none") and panel.start.layout.display is None
    panel.start.value = "female, smiling"
    assert pressed(panel) == ["Black_Hair", "Smiling", "Young"] and shows(panel.picture, of(panel, panel.y))
    panel.switches[SMILING].value = False
    panel.back.click()
    assert pressed(panel) == ["Black_Hair", "Smiling", "Young"]
    panel.start.value = "none"
    assert "y is a tensor of 14 numbers" in panel.message.value and "Smiling" in pressed(panel)
    panel.start.value = "as given"
    assert pressed(panel) == ["Black_Hair", "Male", "Young"] and not panel.message.value


def test_without_the_pictures_ahead(panel, passes):
    panel.ahead.value = False
    panel.switches[SMILING].value = True
    assert passes == [1, 1] and {preview.layout.display for preview in panel.previews} == {"none"}
    panel.ahead.value = True
    assert passes == [1, 1, 15] and {preview.layout.display for preview in panel.previews} == {None}


@pytest.mark.parametrize("name", ["y", "z"])
@pytest.mark.parametrize("wrong", [torch.zeros(13), torch.full((14,), 0.5), torch.full((64,), torch.nan)])
def test_a_y_or_z_that_is_none_is_an_error_and_leaves_the_panel(model, panel, name, wrong):
    z, before = panel.z, panel.picture.value
    complaint = {"y": "y is a tensor of 14 numbers, 0 for off and 1 for on", "z": "a tensor of 64 finite numbers"}[name]
    for show in (lambda: Switches(model, ATTRIBUTES, **{"y": Y, name: wrong}), lambda: setattr(panel, name, wrong)):
        with pytest.raises(AlikitError, match=complaint):
            show()
    assert panel.z is z and torch.equal(panel.y, Y.byte()) and panel.picture.value == before


def test_models_that_have_nothing_to_switch(model, monkeypatch):
    for other, names in ((alikit.RECIPES["digits"].build((1, 8, 8)), ATTRIBUTES), (model, ATTRIBUTES[:13])):
        with pytest.raises(AlikitError, match=f"needs a model that is conditional on its {len(names)} names"):
            Switches(other, names, Y)
    monkeypatch.setattr(model, "decode", lambda z, y: torch.zeros(len(z), 2))
    with pytest.raises(AlikitError, match="points"):
        Switches(model, ATTRIBUTES, Y)
