"""The one training loop, for codec and language models, under Accelerate.

Resume is exact: batches are a function of (seed, epoch), every other draw of a step a function of (seed,
step, batch of the step), the learning rate a function of the step, and the metrics file forgets what came
after the checkpoint. On one machine with one number of threads a resumed run therefore repeats the
undisturbed one bit for bit. How ranks share the batches of a step changes nothing but the order of sums.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedType, PartialState
from accelerate.utils import parse_flag_from_env, set_seed
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from ..errors import ConfigError, SpeechLMError, Stopped
from ..tokenizer.files import write_atomically
from ..tokenizer.memory import keep_freed_memory, return_freed_memory
from .batches import Draw, DurationBatches
from .checkpoint import AveragedWeights, RunFolder
from .codec_recipe import AdversarialSettings
from .config import RunSettings, Strict
from .interrupt import StopRequest, stop_requests
from .optimizer import model_optimizer
from .rival import Rival
from .schedule import learning_rate
from .sharded import configure_deepspeed, count_processor_ranks
from .task import Task, Validation

# What may change between two legs of one run without making it another run.
RESUMABLE = {
    "total_steps",
    "cooldown_steps",
    "accumulation",  # with the ranks, it may share a step's batches anew; `_resume` holds the product
    "activation_checkpointing",
    "num_threads",
    "num_workers",
    "log_every",
    "validate_every",
    "validate_first",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_best",
    "cache",
}


class _Drawn(Dataset[Any]):
    """Items by `Draw`: the batch sampler decides what and with which seed."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def __len__(self) -> int:
        return len(self.task.lengths)

    def __getitem__(self, draw: Draw) -> Any:
        return self.task.item(draw)


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products are native here."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.cpu._is_avx512_bf16_supported()) if device.type == "cpu" else False


class Trainer:
    """Runs a `Task` from its newest checkpoint to `total_steps`.

    Args:
        task: What is trained.
        config: The whole configuration, kept in the run folder.
        settings: The run's part of it.
        kind: `codec` or `slm`.
        folder: Run folder.
        rival: A `RivalModule` trained against the task's model, and its settings.
    """

    def __init__(
        self,
        task: Task,
        config: Strict,
        settings: RunSettings,
        kind: str,
        folder: Path,
        rival: tuple[nn.Module, AdversarialSettings] | None = None,
    ) -> None:
        self.task, self.config, self.settings, self.kind = task, config, settings, kind
        keep_freed_memory()
        if settings.num_threads:
            torch.set_num_threads(settings.num_threads)
        # on a CPU this lets oneDNN take float32 products, which is faster and was measured as exact
        torch.set_float32_matmul_precision("medium")
        # settles the device before the precision is chosen; without `cpu`, ranks that torchrun started on
        # processors would not know of each other
        on_processors = not torch.accelerator.is_available()
        deepspeed = parse_flag_from_env("ACCELERATE_USE_DEEPSPEED")
        device = PartialState(cpu=on_processors and not deepspeed).device
        if on_processors and deepspeed:
            count_processor_ranks()
        self.precision = "bf16" if settings.precision == "bf16" and fast_bf16(device) else "no"
        self.accelerator = Accelerator(
            mixed_precision=self.precision, gradient_accumulation_steps=settings.accumulation
        )
        self.files = RunFolder(folder)
        self.opponent = rival
        self.rival: Rival | None = None
        self.step = 0
        # sums and numbers of what is logged, since the last logged step; part of a checkpoint
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def run(self) -> None:
        """Train to the end.

        Raises:
            ConfigError: If the folder holds another run, the run's data has changed, a step would take
                another number of batches, or the model cannot be trained as the settings ask.
            SpeechLMError: If the loss stops being finite.
            Stopped: If the process was asked to stop; a checkpoint keeps all that was done.
        """
        settings, accelerator = self.settings, self.accelerator
        if accelerator.is_main_process:
            # the cosine's length is its shape: another one would be another run
            fixed = {"total_steps"} if settings.schedule == "cosine" else set()
            self.files.claim(self.kind, self.config, RESUMABLE - fixed)
            described = self.task.model.config.to_json_string(use_diff=False)
            write_atomically(self.files.folder / "model.json", described.encode())
        accelerator.wait_for_everyone()
        set_seed(settings.seed)
        self._prepare_model()
        optimizer: Any = model_optimizer(self.task.model, settings, accelerator)
        sampler = DurationBatches(
            self.task.lengths,
            self.task.max_total,
            settings.seed,
            multiple=self.batches_per_step,
        )
        loader: Any = DataLoader(
            _Drawn(self.task),
            batch_sampler=sampler,  # type: ignore[arg-type]
            collate_fn=self.task.collate,
            num_workers=settings.num_workers,
        )
        if self.is_sharded:
            configure_deepspeed(accelerator, settings)
        model, optimizer, loader = accelerator.prepare(self.task.model, optimizer, loader)
        if self.opponent is not None:
            self.rival = Rival(*self.opponent, settings, accelerator)
        self.averages = AveragedWeights(accelerator.unwrap_model(model), settings.ema_decay)
        progress = self._resume()
        sampler.epoch, sampler.start = progress.get("epoch", 0), progress.get("batch", 0)
        self.writer = SummaryWriter(str(self.files.folder / "tensorboard"), purge_step=self.step)
        with stop_requests() as request:
            self._train(model, optimizer, loader, sampler, request)
        self.writer.close()
        if self.step < settings.total_steps:
            raise Stopped(
                f"Stopped at step {self.step} of {settings.total_steps}, which {self.files.folder} "
                "keeps; the same command goes on from there."
            )

    @property
    def is_sharded(self) -> bool:
        """Whether DeepSpeed trains."""
        return bool(self.accelerator.distributed_type == DistributedType.DEEPSPEED)

    @property
    def batches_per_step(self) -> int:
        """Batches whose gradients make one step, over all ranks."""
        return self.accelerator.num_processes * self.settings.accumulation

    def _prepare_model(self) -> None:
        if not self.settings.activation_checkpointing:
            return
        model = self.task.model
        if not model.supports_gradient_checkpointing:
            raise ConfigError(
                f"run.activation_checkpointing is for language models; {model.config.model_type} "
                "has no blocks to compute twice: leave it out."
            )
        model.gradient_checkpointing_enable({"use_reentrant": False})

    def _resume(self) -> dict[str, Any]:
        """Load the newest checkpoint; its progress, empty for a new run."""
        progress: dict[str, Any] = self.files.restore(self.accelerator, self.averages) or {}
        if progress and progress["data"] != self.task.fingerprint:
            raise ConfigError(
                f"{self.files.folder} was trained on other data than is there now; "
                "choose another --run folder."
            )
        # an earlier release did not write it down
        before = progress.get("batches_per_step", self.batches_per_step)
        if before != self.batches_per_step:
            raise ConfigError(
                f"{self.files.folder} takes {before} batches a step (ranks times run.accumulation), "
                f"and would take {self.batches_per_step} now; change the ranks or run.accumulation "
                f"so that their product is {before}."
            )
        self.step = progress.get("step", 0)
        self.sums, self.counts = progress.get("sums", {}), progress.get("counts", {})
        if (
            "logged" in progress
        ):  # an earlier release counted steps: every figure was of every batch
            batches = (self.step - progress["logged"]) * self.settings.accumulation
            self.counts = dict.fromkeys(self.sums, batches)
        self._leave_sums_to_the_first_rank()
        return progress

    def _train(
        self,
        model: nn.Module,
        optimizer: Any,
        loader: Any,
        sampler: DurationBatches,
        request: StopRequest,
    ) -> None:
        settings, accelerator = self.settings, self.accelerator
        bar = tqdm(
            total=settings.total_steps,
            initial=self.step,
            disable=not accelerator.is_main_process,
            mininterval=5,
        )
        if settings.validate_first and not self.step:
            self._validate(model)
        began, timed = time.monotonic(), self.step
        rival = self.rival
        trained = [model] if rival is None else [model, rival.wrapped]
        model.train()
        ends = self.step >= settings.total_steps
        while not ends:
            consumed = sampler.start
            for number, batch in enumerate(loader):
                self._seed(number % settings.accumulation)
                if number % settings.accumulation == 0:
                    self.task.before_step(self.step)
                    # before the backward pass, in which DeepSpeed steps
                    for group in optimizer.param_groups:
                        group["lr"] = learning_rate(settings, self.step)
                with accelerator.accumulate(*trained):
                    with accelerator.autocast():
                        loss, parts = self.task.loss(model, batch, self.step)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        norm = accelerator.clip_grad_norm_(model.parameters(), settings.clip_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                    if rival is not None and rival.learns_at(self.step):
                        parts |= rival.learn(self.step)
                consumed += accelerator.num_processes
                for name, value in {"loss": loss, **parts}.items():
                    self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
                    self.counts[name] = self.counts.get(name, 0) + 1
                if not accelerator.sync_gradients:
                    continue
                self.step += 1
                self.averages.update(accelerator.unwrap_model(model), self.step)
                bar.update()
                if not math.isfinite(self.sums["loss"]):
                    raise SpeechLMError(
                        f"The loss is not finite at step {self.step}; "
                        "lower run.learning_rate or use precision fp32."
                    )
                if self.step % settings.log_every == 0 or self.step == settings.total_steps:
                    self._gather_sums()
                    record = {
                        n: value / self.counts[n]
                        for n, value in self.sums.items()
                        if self.counts[n]
                    }
                    record["gradient_norm"] = float(norm) if norm is not None else 0.0
                    record["learning_rate"] = learning_rate(settings, self.step - 1)
                    self._log("train", record, time.monotonic() - began, self.step - timed)
                    self.sums, self.counts = {}, {}
                    began, timed = time.monotonic(), self.step
                if self.step % settings.validate_every == 0 or self.step == settings.total_steps:
                    self._validate(model)
                    began = time.monotonic()
                if request.asked:
                    accelerator.set_trigger()
                # one rank that was asked stops them all, after the same step
                ends = accelerator.check_trigger() or self.step >= settings.total_steps
                if self.step % settings.checkpoint_every == 0 or ends:
                    self._checkpoint(sampler, consumed)
                if ends:
                    break
            else:
                sampler.epoch, sampler.start = sampler.epoch + 1, 0
        bar.close()

    def _seed(self, part: int) -> None:
        """Everything random in this batch of this step starts from here, whichever rank has it."""
        accelerator = self.accelerator
        number = part * accelerator.num_processes + accelerator.process_index
        words = (self.settings.seed, self.step, number, 0)
        torch.manual_seed(int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:7], "big"))

    def _gather_sums(self) -> None:
        """Make the sums of what is logged those of all ranks, on the first one; the others' become 0."""
        if self.accelerator.num_processes == 1 or not self.sums:
            return
        names = sorted(self.sums)
        own = [[self.sums[name], float(self.counts[name])] for name in names]
        held = torch.tensor(own, dtype=torch.float64, device=self.accelerator.device)
        whole: Any = self.accelerator.reduce(held, "sum")
        for name, (value, count) in zip(names, whole.tolist(), strict=True):
            self.sums[name], self.counts[name] = value, int(count)
        self._leave_sums_to_the_first_rank()

    def _leave_sums_to_the_first_rank(self) -> None:
        if not self.accelerator.is_main_process:
            self.sums, self.counts = dict.fromkeys(self.sums, 0.0), dict.fromkeys(self.counts, 0)

    def _validate(self, model: nn.Module) -> None:
        bare = self.accelerator.unwrap_model(model)
        self.averages.swap(bare)
        bare.eval()
        try:
            with torch.inference_mode():
                found: Validation = self.task.validate(bare)
        finally:
            bare.train()
            self.averages.swap(bare)
        self._log("valid", found.metrics, 0.0, 0)
        if self.settings.keep_best and "loss" not in found.metrics:
            raise ConfigError(f"keep_best needs a held-out loss, which `train {self.kind}` lacks.")
        if self.accelerator.is_main_process:
            if self.settings.keep_best:
                self.files.keep_best(self.averages, self.step, found.metrics["loss"])
            for name, audio in found.audio.items():
                self.writer.add_audio(name, audio[None], self.step, found.sampling_rate)
                self.writer.add_image(
                    f"{name}/spectrogram", _picture(audio), self.step, dataformats="HW"
                )

    def _checkpoint(self, sampler: DurationBatches, consumed: int) -> None:
        self._gather_sums()
        progress = {
            "step": self.step,
            "epoch": sampler.epoch,
            "batch": consumed,
            "data": self.task.fingerprint,
            "batches_per_step": self.batches_per_step,
            "sums": self.sums,
            "counts": self.counts,
        }
        self.files.save(self.accelerator, self.averages, progress, self.settings.keep_checkpoints)
        return_freed_memory()

    def _log(self, split: str, record: dict[str, float], seconds: float, steps: int) -> None:
        if not self.accelerator.is_main_process:
            return
        for name, value in record.items():
            self.writer.add_scalar(f"{split}/{name}", value, self.step)
        line: dict[str, object] = {"step": self.step, "split": split, **record}
        if steps:
            line["seconds_per_step"] = seconds / steps
        self.files.log(line)
        shown = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in line.items()}
        tqdm.write(json.dumps(shown))


def _picture(audio: Any) -> Any:
    """Log-magnitude spectrogram for the tracker, low frequencies below, within 0 to 1."""
    wave = torch.as_tensor(audio).float()
    spectrum = torch.stft(wave, 512, 128, window=torch.hann_window(512), return_complex=True).abs()
    level = torch.log10(spectrum.clamp(min=1e-5)).flip(0)
    return ((level + 4) / 6).clamp(0, 1).numpy()
