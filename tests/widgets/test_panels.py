"""The panels without a browser: what moving a control changes, and what the panel says when something is wrong."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import alikit
from alikit import Recorded
from alikit.widgets import Between, Pencil, Sliders

RESULTS = Path(__file__).resolve().parents[2] / "results"


def made(seed: int = 0, x_shape=(1, 8, 8), recipe: str = "digits") -> Recorded:
    """An untrained model with codes of its own samples, as if it were recorded."""
    torch.manual_seed(seed)
    model = alikit.RECIPES[recipe].build(x_shape)
    z = model.prior(40)
    codes = {"q_mean": z.double().mean(0), "q_covariance": z.double().T.cov(), "codes": z}
    codes |= {"probe_weight": torch.randn(3, model.z_dim), "probe_bias": torch.zeros(3)}
    of = {"accuracy": 0.9, "balanced": 0.8, "baseline": 0.6}
    names = ["Bald", "Eyeglasses", "Smiling"]
    return Recorded(model, {}, {"probe_names": names, "probe_attributes": dict.fromkeys(names, of)}, [], codes)


@pytest.fixture(scope="module")
def runs() -> dict[str, Recorded]:
    return {"a": made(0), "b": made(1), "coloured": made(2, (3, 32, 32), "house-numbers")}


@pytest.fixture
def panel(runs) -> Sliders:
    return Sliders(models=runs)


def pixels(place) -> torch.Tensor:
    """What a picture's place shows, (3, H, W) in [0, 1]."""
    with Image.open(io.BytesIO(bytes(place.value))) as picture:
        return (
            torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
            .view(picture.height, picture.width, 3)
            .permute(2, 0, 1)
            / 255
        )


def shows(place, x: torch.Tensor) -> bool:
    """Whether a place shows this one picture (C, H, W), enlarged."""
    seen = pixels(place)
    scale = seen.shape[1] // x.shape[1]
    return torch.allclose(seen[:, ::scale, ::scale], x.expand(3, -1, -1), atol=1 / 255)


def said(panel) -> str:
    return panel.message.value


def test_the_first_run_is_shown_at_once(panel, runs):
    assert panel.run.value == "a" and not said(panel)
    assert shows(panel.picture, runs["a"].model.decode(panel.z[None])[0])
    readings = [d.reading(panel.z).item() for d in panel.space.axes[:8]]
    assert [slider.value for slider in panel.axes] == pytest.approx(readings, abs=0.0626)


def test_sliders_are_told_whole_steps_alone(panel):
    """What a browser would bring to a whole step it would send back, and z would drift though nobody touched it."""
    for _ in range(3):
        panel.another.click()
        for slider in (*panel.axes, *panel.turns):
            assert (slider.value / slider.step).is_integer()


def test_a_slider_turns_its_axis_and_the_picture_follows_in_place(panel):
    place, z = panel.picture, panel.z
    panel.axes[2].value = 1.5
    assert panel.picture is place
    assert shows(place, panel.space.model.decode(panel.z[None])[0])
    assert panel.space.axes[2].reading(panel.z).item() == pytest.approx(1.5, abs=1e-4)
    torch.testing.assert_close(panel.z, panel.space.axes[2].turned(z, 1.5))


def test_a_meaning_is_turned_and_the_others_show_what_goes_with_it(panel):
    assert [meaning.value for meaning in panel.meanings] == ["Smiling", "Eyeglasses", "Bald"]
    assert "90% right" in panel.qualities[0].value
    panel.turns[0].value = 2.0
    for slider, direction in panel.directions().items():
        assert slider.value == pytest.approx(direction.reading(panel.z).clamp(-4, 4).item(), abs=0.0626)
    panel.meanings[0].value = "Bald"
    assert panel.turns[0].value == panel.turns[2].value


def test_reset_goes_back_to_the_code_it_began_with(panel):
    before, z = panel.picture.value, panel.z
    panel.axes[0].value, panel.turns[1].value, panel.truncation.value = 3.0, -1.0, 0.5
    assert panel.picture.value != before
    panel.reset.click()
    assert panel.picture.value == before and torch.equal(panel.z, z) and panel.truncation.value == 1.0


def test_another_seed_another_code_and_back(panel):
    before = panel.picture.value
    panel.another.click()
    assert panel.seed.value == 1 and panel.picture.value != before
    panel.seed.value = 0
    assert panel.picture.value == before


def test_seeds_leave_torchs_chance_alone(panel):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    panel.seed.value = 77
    assert torch.equal(torch.rand(1), expected)


def test_truncation_goes_towards_the_mean_and_leaves_z(panel):
    z, space = panel.z, panel.space
    panel.truncation.value = 0.0
    assert shows(panel.picture, space.model.decode(space.mean[None])[0]) and torch.equal(panel.z, z)


def test_the_strip_shows_the_nearest_codes(panel):
    panel.start(panel.space.codes[7])
    nearest = pixels(panel.strip)[:, 2:-2, 2:66]
    assert torch.allclose(
        nearest[:, ::8, ::8], panel.space.model.decode(panel.z[None])[0].expand(3, -1, -1), atol=1 / 255
    )


def test_another_run(panel, runs):
    panel.run.value = "coloured"
    assert len(panel.z) == 64 and shows(panel.picture, runs["coloured"].model.decode(panel.z[None])[0])
    panel.axes[0].value = 2.0
    assert shows(panel.picture, runs["coloured"].model.decode(panel.z[None])[0])


def test_the_sheet_shows_every_slider(panel):
    sheet = panel.sheet(columns=5)
    assert sheet.width > 5 * 64 and sheet.height > 11 * 64


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(2, 16), torch.zeros(0)])
def test_a_code_of_the_wrong_size_is_a_message(panel, wrong):
    before, z = panel.picture.value, panel.z
    panel.start(wrong)
    assert f"a code of this run has 16 numbers, not {wrong.numel()}" in said(panel)
    assert panel.picture.value == before and panel.z is z
    panel.axes[0].value = 1.0
    assert panel.picture.value != before and not said(panel)


def test_what_nobody_foresaw_is_a_message_too(panel, monkeypatch):
    monkeypatch.setattr("alikit.widgets.sliders.grid", lambda *_, **__: 1 / 0)
    panel.axes[0].value = 1.0
    assert "ZeroDivisionError: division by zero" in said(panel)
    monkeypatch.undo()
    panel.axes[0].value = 2.0
    assert not said(panel)


@pytest.fixture
def results(tmp_path) -> Path:
    """A folder with a recorded run, and one run for each thing that may be wrong with it."""
    for name in ("good", "missing", "damaged", "other"):
        shutil.copytree(RESULTS / "celeba-small", tmp_path / name, ignore=shutil.ignore_patterns("*.png"))
    (tmp_path / "missing" / "decoder.safetensors").unlink()
    (tmp_path / "damaged" / "codes.safetensors").write_bytes(b"no codes")
    (tmp_path / "other" / "settings.json").write_text('{"format": 1, "recipe": "of another version"}')
    return tmp_path


@pytest.mark.parametrize("kind", [Sliders, Between, Pencil])
@pytest.mark.parametrize("name", ["missing", "damaged", "other"])
def test_a_damaged_run_is_a_message_and_the_last_one_stays(results, kind, name):
    panel = kind(results, first="good")
    before = panel.picture.value
    panel.run.value = name
    assert said(panel).count(name) >= 1 and "\n" not in said(panel)
    assert panel.run.value == "good" and panel.picture.value == before


def test_a_run_that_vanished(results):
    panel = Sliders(results, first="good")
    shutil.rmtree(results / "other")
    panel.run.value = "other"
    assert "other" in said(panel) and panel.run.value == "good"


def test_codes_of_another_model_are_a_message(runs):
    mixed = replace(runs["coloured"], codes=runs["a"].codes)
    panel = Sliders(models={"a": runs["a"], "mixed": mixed})
    panel.run.value = "mixed"
    assert "not of its model" in said(panel) and panel.run.value == "a"


def test_points_are_no_pictures(runs):
    torch.manual_seed(0)
    toy = alikit.RECIPES["mixture-ali"].build((2,))
    codes = {"q_mean": torch.zeros(2), "q_covariance": torch.eye(2), "codes": torch.zeros(5, 2)}
    panel = Sliders(models={"a": runs["a"], "toy": Recorded(toy, {}, {}, [], codes)})
    panel.run.value = "toy"
    assert "points" in said(panel) and panel.run.value == "a"


@pytest.mark.parametrize("kind", [Sliders, Between, Pencil])
def test_nothing_to_show(tmp_path, kind):
    panel = kind(tmp_path)
    assert "no recorded run in" in said(panel)
    assert panel.sheet().size == (64, 64)
    for control in (getattr(panel, name, None) for name in ("another", "reset", "clear")):
        if control is not None:
            control.click()
    assert "is no folder" in said(kind(tmp_path / "none"))
    assert "nothing to show" in said(kind())
    assert "is one run: name the folder it lies in" in said(kind(RESULTS / "celeba-small"))


def test_nothing_is_open(tmp_path):
    panel = Pencil(tmp_path)
    panel._press(10.0, 10.0)
    panel._lift(10.0, 10.0)
    for ask in (lambda: panel.start(torch.zeros(3)), lambda: panel.encode(torch.zeros(1, 8, 8))):
        panel.say("")
        ask()
        assert "no run is open" in said(panel)


def test_a_code_that_is_no_number_leaves_the_panel_as_it_was(panel):
    before, z = panel.picture.value, panel.z
    panel.start(z * torch.nan)
    assert "no number" in said(panel) and panel.z is z
    panel.reset.click()
    assert panel.picture.value == before and not said(panel)


def test_a_model_of_ones_own_goes_before_a_record_of_its_name(runs):
    panel = Sliders(RESULTS, {"celeba-small": runs["a"]})
    assert panel.run.value == "celeba-small" and len(panel.z) == 16
    assert list(panel.run.options).count("celeba-small") == 1


def test_a_first_run_that_is_not_there(runs):
    panel = Sliders(models=runs, first="nobody's")
    assert panel.run.value == "a" and "nobody" in said(panel)


def test_between(runs):
    panel = Between(models=runs)
    space = panel.space
    ends = space.codes[:2]
    panel.place.value = 0
    assert shows(panel.picture, space.model.decode(ends[:1])[0])
    panel.place.value = 100
    assert shows(panel.picture, space.model.decode(ends[1:])[0])
    panel.place.value = 50
    assert shows(panel.picture, space.model.decode(ends.mean(0, keepdim=True))[0])
    straight = panel.picture.value, panel.strip.value
    panel.way.value = "spherical"
    assert shows(panel.picture, space.model.decode(alikit.mix(ends[:1], ends[1:], 101, spherical=True)[0][50:51])[0])
    assert (panel.picture.value, panel.strip.value) != straight
    panel.to.value = 30
    panel.place.value = 100
    assert shows(panel.picture, space.model.decode(space.codes[30:31])[0])


def test_a_picture_is_encoded(runs):
    x = torch.rand(40, 1, 8, 8)
    panel = Pencil(models=runs, pictures={"a": x})
    model = runs["a"].model
    assert shows(panel.given, x[0]) and torch.equal(panel.z, model.encode(x[:1], sample=False)[0])
    panel.number.value = 5
    assert shows(panel.given, x[5]) and shows(panel.picture, model.reconstruct(x[5:6], sample=False)[0])
    panel.run.value = "b"  # whose pictures are not at hand
    assert torch.equal(panel.z, runs["b"].codes["codes"][5]) and "not kept" in said(panel)


def test_a_drawing_is_encoded(runs):
    panel = Pencil(models=runs, pictures={"a": torch.zeros(40, 1, 8, 8)})
    panel._press(64.0, 32.0)
    panel._drag(64.0, 224.0)
    panel._lift(64.0, 224.0)
    column = panel.drawing[0, :, 1:3].mean(1)
    assert column[1:7].min() > 0.3 and panel.drawing[0, :, 4:].max() == 0
    assert shows(panel.given, panel.drawing) and torch.equal(panel.z, panel.space.encode(panel.drawing))
    panel._drag(200.0, 200.0)  # no button is held
    assert panel.drawing[0, :, 4:].max() == 0
    panel.clear.click()
    assert panel.drawing.max() == 0


def test_a_drawing_in_colours(runs):
    panel = Pencil(models=runs, first="coloured")
    panel.paper.value, panel.ink.value = "#0000ff", "#ff0000"
    panel._press(128.0, 128.0)
    panel._lift(128.0, 128.0)
    torch.testing.assert_close(panel.drawing[:, 16, 16], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(panel.drawing[:, 0, 0], torch.tensor([0.0, 0.0, 1.0]))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 8, 9), (8, 8), ()])
def test_a_picture_of_the_wrong_shape_is_a_message(runs, shape):
    panel = Pencil(models=runs, pictures={"a": torch.zeros(40, 1, 8, 8)})
    before = panel.given.value
    panel.encode(torch.zeros(shape))
    assert "this run takes one picture of 1 x 8 x 8" in said(panel) and panel.given.value == before


class Uploaded(dict):
    """A file as the upload button hands it over."""

    def __init__(self, content: bytes):
        super().__init__(name="mine.png", content=memoryview(content))
        self.name, self.content = "mine.png", memoryview(content)


def test_a_file_of_any_size_is_made_to_fit(runs):
    panel = Pencil(models=runs, first="coloured")
    data = io.BytesIO()
    Image.new("L", (100, 60), 255).save(data, "png")
    panel._read((Uploaded(data.getvalue()),))
    assert shows(panel.given, torch.ones(3, 32, 32))
    before = panel.given.value
    with panel.telling():
        panel._read((Uploaded(b"no picture"),))
    assert "mine.png is no readable picture" in said(panel) and panel.given.value == before


def test_conditional_runs_are_left_to_the_switches(tmp_path):
    for name in ("celeba-small", "conditional-faces"):
        shutil.copytree(RESULTS / name, tmp_path / name)
    assert Sliders(tmp_path).run.options == ("celeba-small",)
    panel = Sliders(models={"told": alikit.recorded(tmp_path / "conditional-faces")})
    assert "told: this run is told y as well as z: alikit.widgets.Switches is the panel" in said(panel)
