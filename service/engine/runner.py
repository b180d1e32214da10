"""Runs one stage of a cascade on one batch: upload, forward, one small copy back.

Shapes: B batch, padded or not, S image side in pixels, K classes.
"""

import logging
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from models import macs
from models.cascade import Cascade
from models.look import look_at
from models.reuse import ReuseState
from service.engine.buckets import bucket_sizes
from service.engine.device_errors import device_errors
from service.engine.graphs import CudaCapture, GraphedForward
from service.engine.policy import Policy
from service.engine.preparation import prepared
from service.engine.state_pool import StatePool
from service.engine.task import StagePrediction, Task
from service.engine.warm_up import Times, run_every_size, run_growing_sizes

_logger = logging.getLogger(__name__)


class TorchRunner:
    """Implements `service.engine.interfaces.Runner` for a cascade on one device.

    Args:
        cascade: copied; the original stays as it is.
        mean: per channel, of pixels scaled to 0..1.
        std: likewise.
        temperatures: one per stage.
        max_batch_size: the largest batch `run` is given.
        capacity: how many images may be in flight, and so may hold reuse state.
        dtype: of weights and activations; confidences are computed in float32 either way.
        buckets: batch sizes to pad up to; none pads nothing. By default those of `bucket_sizes`.
        cuda_graphs: whether the stages are recorded at the warm-up and replayed, where the device can.
    """

    def __init__(
        self,
        cascade: Cascade,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        temperatures: Sequence[float],
        max_batch_size: int,
        capacity: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        buckets: Sequence[int] | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        config = cascade.config
        if len(temperatures) != config.num_stages:
            raise ValueError(f"expected {config.num_stages} temperatures, got {len(temperatures)}")
        self._device = torch.device(device)
        self._dtype = dtype
        on_cpu = self._device.type == "cpu"

        self._cascade = prepared(cascade, self._device, dtype)
        self._graphs: GraphedForward | None = None
        if cuda_graphs and self._device.type == "cuda":
            self._graphs = GraphedForward(self._cascade.forward_stage, CudaCapture(self._device))
        self._temperatures = tuple(temperatures)
        self._stage_macs = tuple(stage.total for stage in macs.stage_macs(config))
        self._baseline_macs = macs.baseline_macs(config)

        # (pixel / 255 - mean) / std, as one product and one sum.
        mean_of, std_of = (
            torch.tensor(values, dtype=torch.float32, device=self._device).view(1, 3, 1, 1) for values in (mean, std)
        )
        self._scale, self._shift = 1 / (255 * std_of), -mean_of / std_of

        if buckets is None:
            buckets = bucket_sizes(max_batch_size, self._device, dtype)
        self._buckets = tuple(sorted({*buckets, max_batch_size})) if buckets else ()
        self._max_batch_size = max_batch_size
        # Every batch is collected here; page-locked for a GPU, which saves the upload another copy.
        shape = (max_batch_size, 3, config.image_size, config.image_size)
        self._staging = torch.zeros(shape, dtype=torch.uint8, pin_memory=not on_cpu)
        # The warm-up fills whole batches, also where fewer images may be in flight.
        self._pool = StatePool(max(capacity, max_batch_size), self._device, config.map_origins)
        self._pending: tuple[int, Sequence[Task], ReuseState] | None = None

    @property
    def stage_macs(self) -> tuple[int, ...]:
        """MACs of each stage for one image."""
        return self._stage_macs

    @property
    def baseline_macs(self) -> int:
        """MACs of one plain ViT at the last grid, for one image."""
        return self._baseline_macs

    @property
    def buckets(self) -> tuple[int, ...]:
        """Batch sizes that batches are padded up to; none where they are not padded."""
        return self._buckets

    @property
    def sizes(self) -> tuple[int, ...]:
        """The buckets; powers of two and the largest batch where nothing is padded."""
        most = self._max_batch_size
        return self._buckets or (*(1 << power for power in range((most - 1).bit_length())), most)

    @property
    def num_kept(self) -> int:
        """How many images hold reuse state."""
        return len(self._pool)

    @property
    def dtype(self) -> str:
        """What the stages are computed in, such as `bfloat16`."""
        return str(self._dtype).removeprefix("torch.")

    def warm_up(self) -> Times:
        """Run every stage: for every bucket on a GPU, else for growing sizes until a batch takes long enough.

        Returns:
            (stage, batch size, seconds) once it was warm; no larger batch of a stage is worth running.

        Raises:
            StateMemoryError: when there is no memory for the reuse state of all images that may be in flight.
        """
        # Numbers no task of an engine has.
        policy = Policy(thresholds=(), config_version=0, max_stage=len(self._stage_macs) - 1)
        tasks = [
            Task(task_id=-1 - row, pixels=self._staging.numpy()[0], policy=policy, submitted_at=0.0)
            for row in range(self._max_batch_size)
        ]
        if self._device.type == "cpu":
            times = run_growing_sizes(self, tasks, self.sizes)
        else:
            with self._graphs.recording() if self._graphs is not None else nullcontext():
                run_every_size(self, tasks, self.sizes)
            # Once more, as they will run from now on.
            times = run_every_size(self, tasks, self.sizes)
        _logger.info(
            "the reuse state of %d images takes %.1f MB, %.1f kB each",
            self._pool.capacity,
            self._pool.capacity * self._pool.bytes_per_image / 1e6,
            self._pool.bytes_per_image / 1e3,
        )
        if self._graphs is not None:
            _logger.info("%d CUDA graphs were recorded", len(self._graphs))
        return times

    @torch.inference_mode()
    def run(self, stage: int, tasks: Sequence[Task]) -> list[StagePrediction]:
        """Compute `stage` for these tasks; see `Runner.run`."""
        self._pending = None
        with device_errors():
            size = min((bucket for bucket in self._buckets if bucket >= len(tasks)), default=len(tasks))
            images = self._upload(stage, tasks, size) if self._cascade.reads_images(stage) else None
            state = None
            if stage > 0:
                # Padding repeats the first row; nobody looks at what is computed for it.
                ids = [task.task_id for task in tasks]
                state = self._pool.load(stage - 1, ids + ids[:1] * (size - len(ids)))
            forward = self._cascade.forward_stage if self._graphs is None else self._graphs
            logits, next_state = forward(stage, images, state)
            predictions = self._read_back(stage, logits[: len(tasks)], tasks)
        self._pending = None if next_state is None else (stage, tasks, next_state)
        return predictions

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Keep the reuse state of these rows of the last batch for their next stage."""
        pending, self._pending = self._pending, None
        if not rows:
            return
        if pending is None:
            raise RuntimeError("no reuse state to keep: the last run failed, or was of the last stage")
        stage, tasks, state = pending
        with device_errors():
            self._pool.store(stage, [tasks[row].task_id for row in rows], state, rows)

    def release(self, tasks: Sequence[Task]) -> None:
        """Forget whatever is kept for these tasks."""
        self._pool.release([task.task_id for task in tasks])

    def _upload(self, stage: int, tasks: Sequence[Task], size: int) -> Tensor:
        """Shape: -> [B, 3, P, P], at the size the stage works on, normalised; rows beyond the tasks hold old pixels."""
        np.stack([task.pixels for task in tasks], out=self._staging.numpy()[: len(tasks)])
        pixels = self._staging[:size].to(self._device, non_blocking=True)
        pixels = look_at(pixels, self._cascade.config.side_px(stage))
        return (pixels.to(torch.float32) * self._scale + self._shift).to(self._dtype)

    def _read_back(self, stage: int, logits: Tensor, tasks: Sequence[Task]) -> list[StagePrediction]:
        """Bring back the most probable classes, values and indices in the one copy of this step."""
        all_probs = torch.softmax(logits.to(torch.float32) / self._temperatures[stage], dim=-1)
        top_k = min(max(task.policy.top_k for task in tasks), all_probs.shape[-1])
        probs, indices = all_probs.topk(top_k, dim=-1)
        # A class index below 2^24 is exact as a float32.
        table = torch.cat([probs, indices.to(torch.float32)], dim=-1).cpu().tolist()
        return [
            StagePrediction(
                stage=stage,
                indices=tuple(int(index) for index in row[top_k : top_k + task.policy.top_k]),
                probs=tuple(row[: min(top_k, task.policy.top_k)]),
            )
            for task, row in zip(tasks, table, strict=True)
        ]
