"""What the stages of a model take on one machine, as measured there: a file that can be read elsewhere."""

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
    """Seconds of every stage at some batch sizes, and what an image costs outside of the stages.

    Attributes:
        model: its name.
        device: where the stages ran, such as `cpu` or `cuda`.
        machine: processor, accelerator and versions, in one line.
        cores: of the whole machine.
        threads: cores that one stage computes with on a CPU.
        padded: whether a batch is padded up to the next of `sizes`, and so takes as long.
        sizes: batch sizes, from 1 on, ascending.
        seconds: [stage][size], mean of a batch alone, from pixels or reuse state to confidences and state for the next
            stage.
        ratios: of batches in the engine under load, their seconds over those alone.
        engine_ms: of a core of the engine process, per image: messages, queues, futures, metrics.
        front_end_ms: of a core of a front-end process, per image: HTTP and decoding, one image a request; by the
            name of the image's size.
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
        """Read what `write` wrote.

        Raises:
            InvalidParameterError: it cannot be read, or is something else.
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
        """Write as JSON."""
        path.write_text(self.model_dump_json() + "\n")

    def check(self, model: str, num_stages: int, max_batch_size: int) -> None:
        """Refuse times of something else.

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
        """Whether the stages take cores that front ends could have."""
        return self.device == "cpu"

    def alone_s(self, stage: int, size: int) -> float:
        """Mean seconds of a batch alone; between the recorded sizes on straight lines, or padded."""
        row = self.seconds[stage]
        if self.padded:
            return row[int(np.searchsorted(self.sizes, size))]
        return float(np.interp(size, self.sizes, row))

    def drawn(self, seed: int) -> Seconds:
        """Seconds of one batch after the other, each as much slower than alone as some recorded one under load."""
        sizes, stages = range(1, self.sizes[-1] + 1), range(len(self.seconds))
        tables = [[0.0, *(self.alone_s(stage, size) for size in sizes)] for stage in stages]
        generator, ratios = random.Random(seed), self.ratios  # noqa: S311 - a simulation
        return lambda stage, size: tables[stage][size] * ratios[int(generator.random() * len(ratios))]
