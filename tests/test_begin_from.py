"""Runs that begin from the weights of another one, and the device that computes."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from commands import alikit, files
from safetensors.torch import load_file

from alikit import AlikitError, digits, distributed, load_model, runs, storage
from alikit.runs import running

# Training moves nothing, and averaging is on.
STILL = "train digits --steps 2 --seed 9 --lr 1e-30 --set ema=0.9"


@pytest.fixture(autouse=True)
def _somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def a_record(run) -> Path:
    """What a record keeps of a run: its encoder and decoder."""
    model, record = load_model(run), Path("record")
    record.mkdir()
    shutil.copy(run / "settings.json", record)
    for name in ("encoder", "decoder"):
        (record / f"{name}.safetensors").write_bytes(storage.to_file(getattr(model, name)))
    return record


def warned(caplog) -> list[str]:
    """Without the line that says what was read."""
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def taken(run: str, other: Path, tolerance: float = 1e-6) -> set[str]:
    """The networks whose weights, but for what batch norm counts, are those of the other run."""
    new, old, same = load_file(Path(run) / "weights.safetensors"), load_model(other).state_dict(), {}
    for name in [name for name in new if not re.search("running|tracked", name)]:
        equal = name in old and torch.allclose(new[name], old[name], atol=tolerance)
        same[name.partition(".")[0]] = same.get(name.partition(".")[0], True) and equal
    return {name for name, equal in same.items() if equal}


def test_a_run_begins_from_the_weights_of_another(run, caplog):
    """Its step and optimiser are new, and it goes on when the other run is gone."""
    assert alikit(f"{STILL} --from run --out new").status == 0 and not warned(caplog)
    assert taken("new", run) == {"encoder", "decoder", "discriminator"}
    assert runs.read_settings("new")["from_run"] == "run" and runs.checkpoint(Path("new"))["step"] == 2
    assert alikit(f"{STILL} --out fresh").status == 0 and not taken("fresh", run)
    run.rename("gone")
    assert alikit("resume new --steps 3").status == 0


def test_a_record_has_no_discriminator(a_record, caplog):
    assert alikit(f"{STILL} --from record --out new").status == 0
    assert warned(caplog) == ["from record come the weights of: decoder, encoder; new ones are in: discriminator"]
    assert taken("new", a_record, 1e-3) == {"encoder", "decoder"}


def test_networks_of_other_layers_are_new(run, caplog):
    """With classes D has more outputs."""
    assert alikit("train digits-semi --steps 1 --lr 1e-30 --from run --out new").status == 0
    assert "new ones are in: discriminator" in caplog.text and taken("new", run) == {"encoder", "decoder"}


def test_conditions_of_other_names_are_not_passed_over(paint, caplog):
    for number in range(20):
        paint(f"pets/{('cat', 'dog')[number % 2]}/{number}.png", (9 * number, 0, 0))
    pets, train = Path("pets"), "train digits-conditional --batch 4 --steps 1 --data folder:pets"
    assert alikit(f"{train} --out run").status == 0
    assert alikit(f"{train} --from run --out same").status == 0 and not warned(caplog)
    (pets / "dog").rename(pets / "bird")
    assert alikit(f"{train} --from run --out other").status == 0
    assert [message.partition(":")[0] for message in warned(caplog)] == [
        "run was trained with other names, or in another order"
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("digits --from nowhere", "nowhere is no run folder"),
        (
            "mixture-gan --from run",
            "run is of examples of 1 x 8 x 8, and mixture holds 2: begin from a run on such data",
        ),
        ("digits-conditional --from run", "no network of run has the layers of this recipe's: begin from a run of"),
        ("mixture-post-hoc --from run --decoder run", "finished GAN's decoder: name its run as decoder, and no other"),
    ],
)
def test_a_run_from_which_none_can_begin(run, line, says):
    before = files(Path())
    finished = alikit(f"train {line} --steps 1 --out new")
    assert finished.status == 2 and re.fullmatch(f"alikit: .*{says}.*\n", finished.err), finished.err
    assert files(Path()) == before


# The device.


def test_a_device_that_is_not_here(run, monkeypatch):
    before = files(Path())
    for command in ("train digits --out new", "resume run --steps 22", "sample run", "reconstruct run", "evaluate run"):
        for device in ("cuda:7", "tpu"):
            finished = alikit(f"{command} --device {device}")
            assert (finished.status, finished.out) == (2, "")
            assert re.fullmatch(rf"alikit: there is no {device} here: choose cpu.*\n", finished.err)
    assert "there is no tpu" in alikit("record run --out there --device tpu").err
    for command in ("train digits --out new", "resume run"):
        finished = alikit(f"{command} --device cpu --devices 2")
        assert finished.status == 2 and "leave it or --devices out" in finished.err
    assert files(Path()) == before
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [str(distributed.device(name)) for name in (None, "cpu", "cuda", torch.device("cuda", 1))] == [
        "cuda",
        "cpu",
        "cuda",
        "cuda:1",
    ]
    with pytest.raises(AlikitError, match="there is no cuda:2 here: choose cpu or cuda or cuda:0 or cuda:1"):
        distributed.device("cuda:2")
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(AlikitError, match="several processes have a device each: leave device out"):
        distributed.device("cuda:1")


def test_the_chosen_device_computes_and_is_not_kept(run):
    settings = runs.read_settings(run)
    assert runs.trainer(settings, digits(), "cpu").model.device.type == "cpu"
    assert alikit("resume run --steps 21 --device cpu").status == 0 and "device" not in runs.read_settings(run)
    for command in ("sample run --out a.png -n 4", "reconstruct run --out b.png -n 4", "evaluate run"):
        assert alikit(f"{command} --device cpu").status == 0
    assert running.evaluate(run, device="cpu") == running.evaluate(run)
