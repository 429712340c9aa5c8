"""The panels without a browser: what moving a control changes, and what the panel says when something is wrong."""

import io
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import alikit
from alikit import AlikitError, Game, Recorded
from alikit.data.conditions import HAIR_COLOURS, switched
from alikit.data.synthetic.faces import ATTRIBUTES
from alikit.widgets import Between, Pencil, Sliders, Switches

RESULTS = Path(__file__).resolve().parents[2] / "results"


def made(seed: int = 0, x_shape=(1, 8, 8), recipe: str = "digits") -> Recorded:
    """An untrained model with codes of its own samples, as if it were recorded."""
    torch.manual_seed(seed)
    model = alikit.RECIPES[recipe].build(x_shape)
    z = model.prior(40)
    codes = {"q_mean": z.double().mean(0), "q_covariance": z.double().T.cov(), "codes": z}
    codes |= {"probe_weight": torch.randn(3, model.z_dim), "probe_bias": torch.zeros(3)}
    names = ["Bald", "Eyeglasses", "Smiling"]
    of = {name: {"accuracy": 0.9, "balanced": 0.8, "baseline": 0.6} for name in names}
    return Recorded(model, {}, {"probe_names": names, "probe_attributes": of}, [], codes)


@pytest.fixture(scope="module")
def runs() -> dict[str, Recorded]:
    others = {"coloured": made(2, (3, 32, 32), "house-numbers"), "toy": made(3, (2,), "mixture-ali")}
    return {"a": made(0), "b": made(1), **others}


@pytest.fixture
def panel(runs) -> Sliders:
    return Sliders(models=runs)


def shows(place, x: torch.Tensor, zoom: int | None = None) -> bool:
    """Whether a place shows this picture (C, H, W), enlarged; in a strip, with its `zoom`, first."""
    with Image.open(io.BytesIO(bytes(place.value))) as picture:
        seen = torch.tensor(np.asarray(picture)).permute(2, 0, 1) / 255
    if zoom:
        seen = seen[:, 2:-2, 2 : 2 + zoom * x.shape[2]]
    zoom = seen.shape[1] // x.shape[1]
    return torch.allclose(seen, x.expand(3, -1, -1).repeat_interleave(zoom, 1).repeat_interleave(zoom, 2), atol=0.004)


def decoded(panel, z: torch.Tensor | None = None) -> torch.Tensor:
    return panel.space.model.decode((panel.z if z is None else z)[None])[0]


def said(panel) -> str:
    return panel.message.value


def test_sliders_show_a_code_in_whole_steps(panel):
    """What a browser would round to a whole step it would send back, and z would drift though nobody touched it."""
    assert panel.run.value == "a" and not said(panel)
    assert [meaning.value for meaning in panel.meanings] == ["Smiling", "Eyeglasses", "Bald"]
    assert "90% right, guessing 60%" in panel.qualities[0].value
    for name in ("a", "coloured", "b"):
        panel.run.value = name
        panel.another.click()
        assert shows(panel.picture, decoded(panel)) and len(panel.directions()) == 11
        for slider, direction in panel.directions().items():
            assert (slider.value / slider.step).is_integer()
            assert slider.value == pytest.approx(direction.reading(panel.z).clamp(-4, 4).item(), abs=0.0626)
    panel.start(panel.space.codes[7])
    assert shows(panel.strip, decoded(panel), zoom=8)  # the nearest codes
    sheet = panel.sheet(columns=5)
    assert sheet.width > 5 * 64 and sheet.height > 11 * 64


def test_a_moved_slider_turns_its_direction_and_the_picture_follows_in_place(panel):
    place, begin, z = panel.picture, panel.picture.value, panel.z
    panel.axes[2].value = 1.5
    torch.testing.assert_close(panel.z, panel.space.axes[2].turned(z, 1.5))
    panel.turns[0].value = 2.0
    assert panel.space.meanings["Smiling"].reading(panel.z).item() == pytest.approx(2, abs=1e-4)
    assert panel.picture is place and shows(place, decoded(panel))
    panel.meanings[0].value = "Bald"
    assert panel.turns[0].value == panel.turns[2].value
    panel.truncation.value = 0.0
    assert shows(place, decoded(panel, panel.space.mean)) and not torch.equal(panel.z, panel.space.mean)
    panel.reset.click()
    assert place.value == begin and torch.equal(panel.z, z) and panel.truncation.value == 1.0
    state = torch.get_rng_state()
    panel.another.click()
    assert panel.seed.value == 1 and place.value != begin
    panel.seed.value = panel.seed.max
    panel.another.click()
    assert panel.seed.value == 0 and place.value == begin and torch.get_rng_state().equal(state)


def test_an_error_is_a_message_and_leaves_the_panel(panel, monkeypatch):
    before, z = panel.picture.value, panel.z
    panel.start(torch.zeros(3))
    assert "a code of this model is a tensor of 16 finite numbers" in said(panel)
    assert panel.picture.value == before and panel.z is z
    with monkeypatch.context() as patch:
        patch.setattr("alikit.widgets.panel.grid", lambda *_: 1 / 0)
        panel.axes[0].value = 1.0
    assert "ZeroDivisionError: division by zero" in said(panel)
    panel.reset.click()
    assert panel.picture.value == before and not said(panel)


@pytest.mark.parametrize("kind", [Sliders, Between, Pencil])
def test_a_run_that_cannot_be_opened_is_a_message_and_the_last_one_stays(runs, tmp_path, kind):
    panel = kind(tmp_path)
    assert f"no recorded run in {tmp_path}" in said(panel)
    acts = [getattr(panel, name).click for name in ("another", "reset") if hasattr(panel, name)]
    for act in acts + [lambda: draw(panel, (10.0, 10.0))] * (kind is Pencil):
        panel.say("")
        act()
        assert "no run is open: choose one" in said(panel)
    for name in ("good", "missing", "damaged", "gone"):
        shutil.copytree(RESULTS / "celeba-small", tmp_path / name, ignore=shutil.ignore_patterns("*.png"))
    (tmp_path / "missing" / "decoder.safetensors").unlink()
    (tmp_path / "damaged" / "codes.safetensors").write_bytes(b"no codes")
    conditional = alikit.recorded(RESULTS / "conditional-faces")
    panel = kind(tmp_path, {**runs, "conditional": conditional}, first="good")
    shutil.rmtree(tmp_path / "gone")
    before = panel.picture.value
    cases = {"toy": "points", "conditional": "alikit.widgets.Switches is the panel"}
    for name in ("missing", "damaged", "gone", *cases):
        panel.run.value = name
        assert f"{name}: " in said(panel) and cases.get(name, "") in said(panel) and "\n" not in said(panel)
        assert panel.run.value == "good" and panel.picture.value == before


def test_what_is_offered_and_what_comes_first(runs, tmp_path):
    for name in ("celeba-small", "conditional-faces", "damaged"):
        shutil.copytree(RESULTS / name.replace("damaged", "celeba-small"), tmp_path / name)
    (tmp_path / "damaged" / "settings.json").write_text('{"format": 1, "recipe": "of another version"}')
    assert Sliders(tmp_path).run.options == ("celeba-small", "damaged")
    panel = Sliders(tmp_path, {"mine": runs["b"], "celeba-small": runs["a"]}, first="celeba-small")
    assert panel.run.options == ("mine", "celeba-small", "damaged") and len(panel.z) == 16, "one's own goes first"
    panel = Sliders(models={"toy": runs["toy"], "a": runs["a"]}, first="nobody's")
    assert panel.run.value == "a" and "no run called nobody" in said(panel)


def test_between(runs):
    panel = Between(models=runs)
    codes = panel.space.codes
    for place, z in {0: codes[0], 100: codes[1], 50: codes[:2].mean(0)}.items():
        panel.place.value = place
        assert shows(panel.picture, decoded(panel, z))
    panel.way.value, panel.to.value = "spherical", 30
    path = alikit.mix(codes[:1], codes[30:31], 101, spherical=True)[0]
    assert shows(panel.picture, decoded(panel, path[50])) and shows(panel.strip, decoded(panel, path[0]), zoom=8)
    assert panel.sheet().width > 9 * 64 and panel.sheet().height > 2 * 64


def test_a_picture_is_encoded(runs):
    x = torch.rand(40, 1, 8, 8)
    panel, model = Pencil(models=runs, pictures={"a": x}), runs["a"].model
    assert shows(panel.given, x[0]) and torch.equal(panel.z, model.encode(x[:1], sample=False)[0])
    panel.number.value = 5
    assert shows(panel.given, x[5]) and shows(panel.picture, model.reconstruct(x[5:6], sample=False)[0])
    before = panel.given.value
    for wrong in (torch.zeros(3, 32, 32), torch.full((1, 8, 8), 255.0)):
        panel.encode(wrong)
        assert "takes a picture of 1 x 8 x 8" in said(panel) and panel.given.value == before
    panel.run.value = "b"  # without pictures at hand
    assert torch.equal(panel.z, runs["b"].codes["codes"][5]) and "not kept" in said(panel)


def draw(panel: Pencil, *places: tuple[float, float]) -> None:
    """A stroke as the browser reports it, after a move and before another without a button."""
    kinds = ["mouse_move", "mouse_down", *["mouse_move"] * len(places[1:]), "mouse_up", "mouse_move", "mouse_out"]
    for kind, (x, y) in zip(kinds, [(200.0, 200.0), *places, places[-1], (200.0, 200.0), (0.0, 0.0)], strict=True):
        panel.canvas._handle_frontend_event(None, {"event": kind, "x": x, "y": y}, None)


def test_a_drawing_is_encoded(runs):
    panel, seen = Pencil(models=runs, pictures={"a": torch.zeros(40, 1, 8, 8)}), []
    encode = panel.encode
    panel.encode = lambda x: (seen.append(x), encode(x))
    draw(panel, (64.0, 32.0), (64.0, 224.0))
    (x,) = seen
    assert x[0, 1:7, 1:3].mean(1).min() > 0.3 and x[0, :, 4:].max() < 0.02
    assert shows(panel.given, x) and torch.equal(panel.z, panel.space.encode(x))
    panel.clear.click()
    draw(panel, (250.0, 250.0))
    assert seen[1][0, :, :6].max() < 0.02
    panel.run.value = "coloured"
    panel.paper.value, panel.ink.value = "#0000ff", "#ff0000"
    draw(panel, (128.0, 128.0))
    assert seen[-1][:, 16, 16].tolist() == [1, 0, 0] and seen[-1][:, 0, 0].tolist() == [0, 0, 1]


def test_a_file_of_any_size_is_made_to_fit(runs):
    panel, data = Pencil(models=runs), io.BytesIO()
    Image.new("L", (100, 60), 255).save(data, "png")
    file = {"name": "mine.png", "type": "", "size": 1, "last_modified": datetime.now(UTC)}
    for name, white in (("a", torch.ones(1, 8, 8)), ("coloured", torch.ones(3, 32, 32))):
        panel.run.value = name
        panel.upload.value = ({**file, "content": memoryview(data.getvalue())},)
        assert shows(panel.given, white)
        panel.upload.value = ({**file, "content": memoryview(b"no picture")},)
        assert "mine.png is no readable picture" in said(panel) and shows(panel.given, white)


# Switches.

SMILING, BLOND = (ATTRIBUTES.index(name) for name in ("Smiling", "Blond_Hair"))
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
def board(model) -> Switches:
    return Switches(model, ATTRIBUTES, Y)


@pytest.fixture
def passes(board, monkeypatch) -> list[int]:
    """How many pictures each pass through the decoder made."""
    made, decode = [], board.model.decode
    monkeypatch.setattr(board.model, "decode", lambda z, y: (made.append(len(z)), decode(z, y=y))[1])
    return made


def of(board: Switches, y: torch.Tensor) -> torch.Tensor:
    return board.model.decode(board.z[None], y=y)[0]


def pressed(board: Switches) -> list[str]:
    return [name for name, switch in zip(ATTRIBUTES, board.switches, strict=True) if switch.value]


def test_a_switch_changes_y_and_the_picture_in_place(board, passes):
    place, z, before, switch = board.picture, board.z, board.picture.value, board.switches[SMILING]
    assert board.seed == 0 and board.z.shape == (64,) and torch.equal(board.y, Y.byte()) and not said(board)
    assert shows(place, of(board, Y)) and pressed(board) == ["Black_Hair", "Male", "Young"]
    assert "Black Hair, Male, Young<br>z of seed 0" in board.words.value
    assert (switch.description, switch.button_style) == ("Smiling", "")
    assert board.start.layout.display == board.given.layout.display == "none"
    switch.value = True
    assert passes == [1, 15] and board.picture is place and board.z is z and place.value != before
    assert torch.equal(board.y, switched(Y, ["Smiling"], ATTRIBUTES).byte())
    assert shows(place, of(board, board.y)) and "Male, Smiling, Young" in board.words.value
    assert (switch.description, switch.button_style) == ("✓ Smiling", "primary"), "more than a colour shows it"
    switch.value = False
    assert place.value == before
    assert board.sheet().width > 130 + 2 * 64 and board.sheet().height > 14 * 64


def test_above_each_switch_is_what_it_leads_to_and_hair_has_one_colour(board, passes):
    for column in (0, SMILING, BLOND):
        switch, preview = board.switches[column], board.previews[column]
        promised = preview.value
        switch.value = not switch.value
        x = of(board, board.y)
        assert ({*pressed(board)} & {*HAIR_COLOURS}) == {"Blond_Hair" if column == BLOND else "Black_Hair"}
        board.y = Y
        assert preview.value == promised and shows(preview, x)
    assert passes == [15, 1, 15] * 3, "one pass, though two switches move"
    board.y = torch.zeros(14, dtype=torch.bool)
    assert not pressed(board) and "nothing<br>z of seed 0" in board.words.value
    passes.clear()
    board.ahead.value = False
    board.switches[SMILING].value = True
    assert passes == [1, 1] and {preview.layout.display for preview in board.previews} == {"none"}
    board.ahead.value = True
    assert passes == [1, 1, 15] and {preview.layout.display for preview in board.previews} == {None}


def test_names_that_differ_by_a_sign(model):
    board = Switches(model, ["1", "-1", *ATTRIBUTES[2:]], torch.eye(14)[0])
    for column in (0, 1):
        board.switches[column].value = not board.switches[column].value
    assert board.y.tolist() == [0, 1, *[0] * 12] and not said(board)


def test_another_z_and_back(board, passes):
    before, state = board.picture.value, torch.get_rng_state()
    board.another.click()
    assert board.seed == board.number.value == 1 and board.picture.value != before
    board.number.value = board.number.max
    board.another.click()
    assert board.seed == 0 and board.picture.value == before and torch.get_rng_state().equal(state)
    board.number.value = 7
    assert board.seed == 7 and passes == [15] * 4
    before = board.picture.value
    board.switches[SMILING].value, board.switches[BLOND].value = True, True
    board.back.click()
    assert board.picture.value == before and board.seed == 7 and torch.equal(board.y, Y.byte())


def test_a_code_of_ones_own(model, board):
    z = model.encode(torch.rand(1, 3, 32, 32), sample=False, y=Y)
    board.z = z
    assert torch.equal(board.z, z[0]) and board.seed is None and "z as given" in board.words.value
    assert shows(board.picture, of(board, Y)) and board.given.layout.display is None
    other = Switches(model, ATTRIBUTES, Y, z.clone().requires_grad_())
    assert shows(other.picture, of(board, Y)) and not other.z.requires_grad
    board.another.click()
    assert board.seed == 0, "the seed in the panel was not drawn before"
    board.given.click()
    assert torch.equal(board.z, z[0]) and board.seed is None
    z += 1
    assert not torch.equal(board.z, z[0]), "it is the panel's own"


def test_starts(model):
    starts = {"female, smiling": switched(Y, ["-Male", "Smiling"], ATTRIBUTES), "none": torch.zeros(13)}
    board = Switches(model, ATTRIBUTES, Y, starts=starts)
    assert board.start.options == ("as given", "female, smiling", "none") and board.start.layout.display is None
    board.start.value = "female, smiling"
    assert torch.equal(board.y, starts["female, smiling"].byte()) and shows(board.picture, of(board, board.y))
    board.switches[SMILING].value = False
    board.back.click()
    assert pressed(board) == ["Black_Hair", "Smiling", "Young"]
    board.start.value = "none"
    assert "y is a tensor of 14 numbers" in said(board) and "Smiling" in pressed(board)
    board.start.value = "as given"
    assert torch.equal(board.y, Y.byte()) and not said(board)


@pytest.mark.parametrize("name", ["y", "z"])
@pytest.mark.parametrize("wrong", [torch.zeros(13), torch.full((14,), 0.5), torch.full((64,), torch.nan)])
def test_a_y_or_z_that_is_none_is_an_error_and_leaves_the_panel(model, board, name, wrong):
    z, before = board.z, board.picture.value
    complaint = {"y": "y is a tensor of 14 numbers, 0 for off and 1 for on", "z": "a tensor of 64 finite numbers"}[name]
    for show in (lambda: Switches(model, ATTRIBUTES, **{"y": Y, name: wrong}), lambda: setattr(board, name, wrong)):
        with pytest.raises(AlikitError, match=complaint):
            show()
    assert board.z is z and torch.equal(board.y, Y.byte()) and board.picture.value == before


def test_models_that_have_nothing_to_switch(runs, model, monkeypatch):
    for other, names in ((runs["a"].model, ATTRIBUTES), (model, ATTRIBUTES[:13])):
        with pytest.raises(AlikitError, match=f"needs a model that is conditional on its {len(names)} names"):
            Switches(other, names, Y)
    monkeypatch.setattr(model, "decode", lambda z, y: torch.zeros(len(z), 2))
    with pytest.raises(AlikitError, match="points"):
        Switches(model, ATTRIBUTES, Y)
