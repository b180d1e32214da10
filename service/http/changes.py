"""The bodies that change a configuration: thresholds, a target, or the name of an operating point."""

from typing import Annotated, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, model_validator

from service.engine.operating import Target, TargetKind, parse_thresholds
from service.errors import InvalidParameterError
from weights.manifest import Manifest

BODY_TYPES = ("application/merge-patch+json", "application/json")

_Share = Annotated[StrictFloat, Field(ge=0, le=1, allow_inf_nan=False)]
_Positive = Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]


class TargetDocument(BaseModel):
    """Exactly one target; the calibration table gives the thresholds that meet it."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"minProperties": 1, "maxProperties": 1})

    mean_macs: _Positive = Field(default=0.0, description="The most MACs per image, in the mean.")
    fraction: _Positive = Field(
        default=0.0, description="The most MACs per image, in the mean, as a fraction of the baseline's."
    )
    accuracy: _Share = Field(default=0.0, description="The least accuracy, with the fewest MACs; 0.9 is 90 %.")
    accuracy_drop: _Share = Field(
        default=0.0, description="The most accuracy lost against the full cascade; 0.005 is half a point."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError(f"give exactly one of {', '.join(type(self).model_fields)}")
        return self

    def to_target(self) -> Target:
        """The target of this document."""
        (kind,) = (kind for kind in _KINDS if kind in self.model_fields_set)
        return Target(kind, float(getattr(self, kind)))


_KINDS: tuple[TargetKind, ...] = get_args(TargetKind)


class ConfigurationPatch(BaseModel):
    """A merge patch: what is absent stays as it is. Nothing can be removed, so null is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra={"maxProperties": 1})

    thresholds: StrictFloat | list[StrictFloat] = Field(
        default_factory=list,
        description="One number for all exits, or one per exit but the last; 0 is always, above 1 is never.",
    )
    target: TargetDocument = Field(
        default_factory=lambda: TargetDocument(accuracy_drop=0.0),
        description="The cost or the accuracy that thresholds are solved for.",
    )
    operating_point: str = Field(default="", description="The name of one of the model's operating points.")

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if len(self.model_fields_set) > 1:
            raise ValueError("give thresholds, a target or an operating_point, only one of them")
        return self

    @property
    def says_nothing(self) -> bool:
        """Whether the configuration stays as it is."""
        return not self.model_fields_set

    @property
    def wanted_target(self) -> Target | None:
        """The target, if one is given."""
        return self.target.to_target() if "target" in self.model_fields_set else None

    def wanted_thresholds(self, manifest: Manifest) -> tuple[float, ...]:
        """The thresholds, given as numbers or by the name of an operating point.

        Raises:
            InvalidParameterError: they do not fit the model, or it has no such operating point.
        """
        if "thresholds" in self.model_fields_set:
            return parse_thresholds(self.thresholds, manifest.architecture.num_stages)
        points, name = manifest.operating_points, self.operating_point
        for point in points:
            if point.name == name:
                return point.thresholds
        known = f"{points[0].name} to {points[-1].name}" if points else "none"
        raise InvalidParameterError(f"operating_point {name[:100]!r} is not one of the model's {len(points)} ({known})")


class ConfigurationReplacement(ConfigurationPatch):
    """A whole configuration: thresholds, a target or an operating point."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if self.says_nothing:
            raise ValueError("give thresholds, a target or an operating_point")
        return self


class Simulated(ConfigurationPatch):
    """A configuration to simulate; an empty one stands for the one in force."""
