"""Stage times of a model, measured on one machine; stored in a file that other machines can read."""

import random
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from service.capacity.simulation import Seconds
from service.errors import InvalidParameterError


class RecordedTimes(BaseModel):
    """Seconds of every stage at some batch sizes, and the cost of an image outside of the stages.

    Attributes:
        model: name of the model.
        device: device of the stages, such as `cpu` or `cuda`.
        machine: processor, accelerator and versions, in one line.
        cores: cores of the machine.
        threads: cores that a stage uses on a CPU.
        padded: whether batches are padded to the next of `sizes`.
        sizes: batch sizes, ascending from 1.
        seconds: [stage][size], mean time of a batch alone, from pixels or reuse state to confidences and stored state.
        ratios: seconds of batches in an engine under load, relative to batches alone.
        engine_ms: processor time of the engine process per image: messages, queues, futures, metrics.
        front_end_ms: processor time of a front end per image: HTTP and decoding, one image per request; by name of
            the image size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str
    device: str
    dtype: str
    machine: str
    cores: PositiveInt
    threads: PositiveInt
    padded: bool
    sizes: tuple[PositiveInt, ...]
    seconds: tuple[tuple[PositiveFloat, ...], ...] = Field(min_length=1)
    ratios: tuple[PositiveFloat, ...] = Field(min_length=1)
    engine_ms: NonNegativeFloat
    front_end_ms: dict[str, NonNegativeFloat]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sizes[:1] != (1,) or list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError(f"sizes must ascend from 1, got {list(self.sizes)}")
        for stage, row in enumerate(self.seconds):
            if len(row) != len(self.sizes):
                raise ValueError(f"stage {stage} has {len(row)} times for {len(self.sizes)} sizes")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that `write` wrote.

        Raises:
            InvalidParameterError: the file cannot be read, or is another kind of file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise InvalidParameterError(f"stage times: {path} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise InvalidParameterError(f"stage times: {path}: {where or 'file'}: {first['msg']}") from error

    def write(self, path: Path) -> None:
        """Write the file as JSON."""
        path.write_text(self.model_dump_json() + "\n")

    def check(self, model: str, num_stages: int, max_batch_size: int) -> None:
        """Check that the times fit a model and a batch size.

        Raises:
            InvalidParameterError: they are of another model, or of smaller batches.
        """
        if (self.model, len(self.seconds)) != (model, num_stages):
            raise InvalidParameterError(
                f"the stage times are of {self.model} with {len(self.seconds)} stages, not of {model} with {num_stages}"
            )
        if max_batch_size > self.sizes[-1]:
            raise InvalidParameterError(
                f"the stage times end at batches of {self.sizes[-1]}; {max_batch_size} are asked for"
            )

    def overhead_ms(self, image_size: str) -> float:
        """A front end's milliseconds for an image of this size.

        Raises:
            InvalidParameterError: it was not measured.
        """
        if image_size not in self.front_end_ms:
            raise InvalidParameterError(
                f"HTTP and decoding were measured with {', '.join(self.front_end_ms) or 'no'} images, not with "
                f"{image_size} ones; give --overhead-ms"
            )
        return self.front_end_ms[image_size]

    @property
    def on_cpu(self) -> bool:
        """Whether stages and front ends share the cores."""
        return self.device == "cpu"

    def alone_s(self, stage: int, size: int) -> float:
        """Mean seconds of a batch alone; linear between the recorded sizes, or padded."""
        row = self.seconds[stage]
        if self.padded:
            return row[int(np.searchsorted(self.sizes, size))]
        return float(np.interp(size, self.sizes, row))

    def drawn(self, seed: int) -> Seconds:
        """Random seconds per batch: the time alone, multiplied by one of `ratios`."""
        sizes, stages = range(1, self.sizes[-1] + 1), range(len(self.seconds))
        tables = [[0.0, *(self.alone_s(stage, size) for size in sizes)] for stage in stages]
        generator, ratios = random.Random(seed), self.ratios  # noqa: S311 - a simulation
        return lambda stage, size: tables[stage][size] * ratios[int(generator.random() * len(ratios))]
