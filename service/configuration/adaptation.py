"""Adapts a shared configuration to a replica with other weights than those it was set for."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.engine.operating import OperatingPoint, Target
from service.errors import InvalidParameterError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """Adapts stored operating points to this replica's model. Thread-safe if `solve` is.

    Attributes:
        calibration: digest of this replica's weights and calibration.
        solve: the best thresholds for a target; raises InvalidParameterError if no thresholds meet it.
    """

    calibration: str
    solve: Callable[[Target], tuple[float, ...]]

    def fits(self, point: OperatingPoint) -> bool:
        """Whether the point can be used unchanged; points that older versions stored, without a calibration, can."""
        return point.calibration in (None, self.calibration)

    def adapted(self, point: OperatingPoint, own: tuple[float, ...]) -> OperatingPoint:
        """Adapt a point that does not fit; logs the result. Solving takes some tens of milliseconds.

        Thresholds that a user chose stay. Thresholds that were solved for a target are solved again; if this model
        cannot meet the target, its `own` thresholds are used.
        """
        other = f"version {point.version} of the configuration was set for other weights, or another calibration"
        before = list(point.thresholds)
        if point.target is None:
            _logger.warning("%s: its thresholds %s stay and may have other effects; set them anew", other, before)
            return point
        try:
            thresholds = self.solve(point.target)
        except InvalidParameterError as error:
            _logger.warning("%s: the model's own thresholds %s hold, since %s", other, list(own), error)
            return replace(point, thresholds=own, target=None, calibration=self.calibration)
        target = f"target {point.target.kind} {point.target.value:g}"
        _logger.info("%s: %s solved anew, thresholds %s instead of %s", other, target, list(thresholds), before)
        return replace(point, thresholds=thresholds, calibration=self.calibration)
