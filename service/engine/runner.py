"""Runs one stage of a cascade on one batch: upload, forward, one small copy back.

Shapes: B batch, padded or not, S image side in pixels, K classes.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models import macs
from models.cascade import Cascade
from models.look import look_at
from models.reuse import ReuseState
from service.engine.device_errors import device_errors
from service.engine.graphs import CudaCapture, GraphedForward
from service.engine.policy import Policy
from service.engine.preparation import bucket_sizes, prepared
from service.engine.state_pool import StatePool
from service.engine.task import StagePrediction, Task
from service.engine.warm_up import Times, run_every_size, run_growing_sizes

_logger = logging.getLogger(__name__)


class TorchRunner:
    """Implements `service.engine.interfaces.Runner` for a cascade on one device.

    Args:
        cascade: is copied, not changed.
        mean: per channel, of pixels scaled to 0..1; `std` likewise.
        temperatures: one per stage.
        max_batch_size: the largest batch `run` is given.
        capacity: the most images in flight, each with reuse state.
        dtype: type of weights and activations; confidences are computed in float32.
        buckets: batch sizes to pad to; an empty sequence disables padding. By default those of `bucket_sizes`.
        cuda_graphs: whether stages are recorded in the warm-up and replayed, on a GPU.
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
        self.stage_macs = tuple(stage.total for stage in macs.stage_macs(config))
        self.baseline_macs = macs.baseline_macs(config)
        self.dtype = str(dtype).removeprefix("torch.")
        self._device = torch.device(device)
        self._dtype = dtype
        self._cascade = prepared(cascade, self._device, dtype)
        self._graphs: GraphedForward | None = None
        if cuda_graphs and self._device.type == "cuda":
            self._graphs = GraphedForward(self._cascade.forward_stage, CudaCapture(self._device))
        self._temperatures = tuple(temperatures)

        # (pixel / 255 - mean) / std, as one product and one sum.
        channels = torch.tensor([mean, std], dtype=torch.float32, device=self._device)
        mean_C11, std_C11 = channels[..., None, None].unbind()
        self._scale, self._shift = 1 / (255 * std_C11), -mean_C11 / std_C11

        if buckets is None:
            buckets = bucket_sizes(max_batch_size, self._device, dtype)
        self.buckets = tuple(sorted({*buckets, max_batch_size})) if buckets else ()
        self._max_batch_size = max_batch_size
        # Every batch is collected here; page-locked for a GPU, which saves a copy.
        shape = (max_batch_size, 3, config.image_size, config.image_size)
        self._staging = torch.zeros(shape, dtype=torch.uint8, pin_memory=self._device.type != "cpu")
        # The warm-up runs full batches, even if fewer images may be in flight.
        self._pool = StatePool(max(capacity, max_batch_size), self._device, config.map_origins)
        self._pending: tuple[int, Sequence[Task], ReuseState] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes of the warm-up: the buckets; without padding, powers of two and the largest batch."""
        most = self._max_batch_size
        return self.buckets or (*(1 << power for power in range((most - 1).bit_length())), most)

    def warm_up(self) -> Times:
        """Run every stage: on a GPU with every bucket, on a CPU with growing sizes; see `Runner.warm_up`.

        Raises:
            StateMemoryError: when there is no memory for the reuse state of `capacity` images.
        """
        # An engine's task ids are not negative.
        policy = Policy(thresholds=(), config_version=0, max_stage=len(self.stage_macs) - 1)
        tasks = [
            Task(task_id=-1 - row, pixels=self._staging.numpy()[0], policy=policy, submitted_at=0.0)
            for row in range(self._max_batch_size)
        ]
        if self._device.type == "cpu":
            times = run_growing_sizes(self, tasks, self.sizes)
        else:
            if self._graphs is not None:
                self._graphs.recording = True
            run_every_size(self, tasks, self.sizes)
            if self._graphs is not None:
                self._graphs.recording = False
                _logger.info("%d CUDA graphs were recorded", len(self._graphs))
            # Measured separately, without recording.
            times = run_every_size(self, tasks, self.sizes)
        images, each = self._pool.capacity, self._pool.bytes_per_image
        message = "the reuse state of %d images takes %.1f MB, %.1f kB each"
        _logger.info(message, images, images * each / 1e6, each / 1e3)
        return times

    @torch.inference_mode()
    def run(self, stage: int, tasks: Sequence[Task]) -> list[StagePrediction]:
        """Compute `stage` for these tasks; see `Runner.run`."""
        self._pending = None
        with device_errors():
            size = min((bucket for bucket in self.buckets if bucket >= len(tasks)), default=len(tasks))
            images = self._upload(stage, tasks, size) if self._cascade.reads_images(stage) else None
            state = None
            if stage > 0:
                # Padding repeats the first row; its results are ignored.
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
        """Free the reuse state of these tasks; see `Runner.release`."""
        self._pool.release([task.task_id for task in tasks])

    def _upload(self, stage: int, tasks: Sequence[Task], size: int) -> Tensor:
        """Shape: -> [B, 3, P, P], normalised, at the stage's size; rows beyond the tasks hold old pixels."""
        np.stack([task.pixels for task in tasks], out=self._staging.numpy()[: len(tasks)])
        pixels = self._staging[:size].to(self._device, non_blocking=True)
        pixels = look_at(pixels, self._cascade.config.side_px(stage))
        return (pixels.to(torch.float32) * self._scale + self._shift).to(self._dtype)

    def _read_back(self, stage: int, logits: Tensor, tasks: Sequence[Task]) -> list[StagePrediction]:
        """Copy the most probable classes to the host, values and indices in one copy."""
        all_probs = torch.softmax(logits.to(torch.float32) / self._temperatures[stage], dim=-1)
        most = min(max(task.policy.top_k for task in tasks), all_probs.shape[-1])
        # Indices below 2^24 are exact in float32.
        table_2BK = torch.stack([values.to(torch.float32) for values in all_probs.topk(most, dim=-1)]).cpu()
        return [
            StagePrediction(
                stage=stage,
                indices=tuple(map(int, indices[: task.policy.top_k])),
                probs=tuple(probs[: task.policy.top_k]),
            )
            for task, probs, indices in zip(tasks, *table_2BK.tolist(), strict=True)
        ]
