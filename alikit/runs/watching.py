"""A run while it trains: its progress bar and log, its checkpoints and pictures, and how it ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from tqdm import tqdm

from .. import distributed, runs
from ..data import Dataset
from ..errors import AlikitError, Diverged
from ..evaluation import awake, measured
from ..evaluation.inference import conditions_of
from ..figures import beside, picture
from ..stopping import held
from ..training import Progress, Trainer

SAVE_EVERY = 60.0  # seconds between checkpoints, about
TIMES = ("seconds", "processor_seconds")  # of a run so far, in each line of its log
PICTURES = 60  # in a grid
WATCHED = 200  # most held-out examples, and codes, that a line of the log is about
MEASURED = 500  # held-out examples that are measured at the end of training; `evaluate` takes all
MILESTONES = (1, 10, 100)  # epochs after which pictures are drawn besides
# What PyTorch says of the processor's memory and of a GPU's, beside MemoryError and its own OutOfMemoryError.
NO_MEMORY = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "ALLOC_FAILED")


def is_out_of_memory(error: Exception) -> bool:
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)


@contextmanager
def enough_memory(way: str) -> Iterator[None]:
    """Turns a lack of memory in the block into an AlikitError that ends in `way`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise AlikitError(f"not enough memory: free some, or {way}") from None
        raise


class Stopped(KeyboardInterrupt):
    """A signal stopped the run after `step` of `steps`, and everything is saved."""

    def __init__(self, folder: Path, step: int, steps: int):
        super().__init__(f"stopped at step {step} of {steps}, saved in {folder}: resume it")
        self.folder, self.step, self.steps = folder, step, steps


def follow(
    trainer: Trainer, parts: tuple[Dataset, Dataset], out: Path, steps: int, save_every: float | None
) -> dict | None:
    """Trains with a progress bar, logging, saving and drawing. Of several processes the first one does."""
    watch = Watch(trainer, parts[1], out, steps, SAVE_EVERY if save_every is None else save_every)
    try:
        if distributed.rank():
            with suppress(KeyboardInterrupt, Diverged), held() as signalled:  # the first process reports the same
                trainer.run(steps, watch.every, None, watch.milestones, lambda: distributed.any_of_all(signalled()))
            distributed.leave()
            return None
        try:
            with watch.begin(), held() as signalled:  # the bar is closed before any error is reported
                trainer.run(steps, watch.every, watch, watch.milestones, lambda: distributed.any_of_all(signalled()))
            held_out = parts[1] if len(parts[1].shape) == 1 else parts[1].some(MEASURED)
            found = measured(trainer.result, parts[0], held_out)
        except KeyboardInterrupt:
            with held(again=False):
                trainer.check_finite()
                runs.save(out, trainer)
            raise Stopped(out, trainer.step, steps) from None
    except Diverged as error:
        raise Diverged(f"{error}; {out} keeps the weights and checkpoint of step {watch.saved}") from None
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        saved = f"of step {watch.saved}" if distributed.rank() == 0 else "that were saved last"
        kept = f"{out} keeps the weights and checkpoint {saved}"
        way = f"free some, and go on with: alikit resume {out}; or train anew with a smaller --batch (batch_size)"
        raise AlikitError(f"not enough memory at step {trainer.step}; {kept}: {way}") from None
    runs.log(out, {"step": steps, **found})
    distributed.leave()
    return found


class Watch:
    """Called with each report of a run: writes a line of the log, and now and then a checkpoint and pictures."""

    def __init__(self, trainer: Trainer, held_out: Dataset, out: Path, steps: int, save_every: float):
        self.trainer, self.held_out, self.out, self.steps, self.save_every = trainer, held_out, out, steps, save_every
        self.saved, self.every = trainer.step, max(1, min(100, steps // 10))
        self.milestones = {epochs * trainer.epoch_steps for epochs in MILESTONES} | {steps}
        # `awake` takes three passes an example, a step about nine: so it takes a twentieth of the time or less.
        self.watched = held_out.some(max(8, min(WATCHED, self.every * trainer.config.batch_size // 10)))

    def begin(self) -> tqdm:
        """Brings the folder to the trainer's step, so that a run can be resumed, and looked at, from the beginning.
        Returns the progress bar."""
        step = self.trainer.step
        runs.rewind_log(self.out, step)
        if step == 0 or not (self.out / "weights.safetensors").exists():
            runs.save(self.out, self.trainer)
        self.saved, self.saved_at = step, time.monotonic()
        log = runs.metrics(self.out)
        took, worked = (max((line.get(name, 0) for line in log), default=0) for name in TIMES)
        self.begun, self.begun_work = time.monotonic() - took, time.process_time() - worked
        self.times = TIMES if not took or worked else TIMES[:1]  # a run of an earlier version has no processor time
        if step and self.is_drawn(step) and not (self.out / f"samples-{step:07d}.png").exists():
            with torch.random.fork_rng():
                self.draw(step)
        self.bar = tqdm(total=self.steps, initial=step, unit=" steps", mininterval=0.5)
        return self.bar

    def is_drawn(self, step: int) -> bool:
        interval = self.every * max(10, self.steps // self.every // 20)  # about twenty pictures of a long run
        return step % interval == 0 or step in self.milestones

    def __call__(self, progress: Progress) -> None:
        step, pace = progress.step, round(progress.images_per_second)
        times = time.monotonic() - self.begun, time.process_time() - self.begun_work
        line = {"step": step, "images_per_second": pace} | dict(zip(self.times, map(round, times), strict=False))
        line |= progress.losses
        model, x = self.trainer.result, self.watched
        if len(x.shape) == 3 and model.encoder is not None:
            z = torch.randn(len(x), model.z_dim, generator=torch.Generator().manual_seed(0)).to(model.device)
            found = awake(model, x.floats().to(model.device), z, conditions_of(model, x))
            line |= {name: round(value, 4) for name, value in found.items()}
        runs.log(self.out, line)
        self.bar.update(step - self.bar.n)
        self.bar.set_postfix({p: f"{loss:.3f}" for p, loss in progress.losses.items()} | {"images/s": pace})
        if self.is_drawn(step) or time.monotonic() - self.saved_at >= self.save_every:
            runs.save(self.out, self.trainer)  # before drawing, which sets the random state
            self.saved, self.saved_at = step, time.monotonic()
        if self.is_drawn(step):
            self.draw(step)

    def draw(self, step: int) -> None:
        """Samples from the same codes every time, and reconstructions of the same held-out examples."""
        model = self.trainer.result
        if model.decoder is None:
            return
        torch.manual_seed(0)
        number = PICTURES if len(self.held_out.shape) == 3 else 2000
        some = self.held_out.some(number)
        y = conditions_of(model, some)
        samples = picture(model.sample(number if y is None else len(some), y))
        if model.encoder is not None:
            some = self.held_out.some(number // 2)
            x_hat = model.reconstruct(some.floats().to(model.device), y=conditions_of(model, some))
            runs.save_picture(picture(beside(some.floats(), x_hat)), self.out / f"reconstructions-{step:07d}.png")
        runs.save_picture(samples, self.out / f"samples-{step:07d}.png")  # last: it marks both as done
