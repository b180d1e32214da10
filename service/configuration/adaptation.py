"""A shared configuration on a replica with other weights than those it was set for."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from service.engine.operating import OperatingPoint, Target
from service.errors import InvalidParameterError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptation:
    """Makes a stored operating point one of this replica's own model. Thread-safe where `solve` is.

    Attributes:
        calibration: digest of the weights and the calibration that thresholds found here belong to.
        solve: the thresholds that meet a target best; raises InvalidParameterError where nothing meets it.
    """

    calibration: str
    solve: Callable[[Target], tuple[float, ...]]

    def fits(self, point: OperatingPoint) -> bool:
        """Whether the point can be used as it is."""
        # Nothing is known of a point that was stored before calibrations were remembered. It fits, so that a new
        # version of this program changes nobody's thresholds.
        return point.calibration in (None, self.calibration)

    def adapted(self, point: OperatingPoint, own: tuple[float, ...]) -> OperatingPoint:
        """A point that does not fit, with thresholds for this model as far as they can be known; logs what was done.

        Thresholds that somebody chose stay. Those that were solved for a target are solved anew, which takes some
        tens of milliseconds; where this model cannot meet it, nothing is known of them, and its own hold.

        Args:
            own: the model's own thresholds.
        """
        other = (
            f"version {point.version} of the configuration was set for other weights than these, or another calibration"
        )
        if point.target is None:
            _logger.warning(
                "%s: its thresholds %s stay, and may not do what they did; set them anew",
                other,
                list(point.thresholds),
            )
            return point
        try:
            thresholds = self.solve(point.target)
        except InvalidParameterError as error:
            _logger.warning(
                "%s: the model's own thresholds %s hold, since %s",
                other,
                list(own),
                error,
            )
            return replace(point, thresholds=own, target=None, calibration=self.calibration)
        _logger.info(
            "%s: target %s %g solved anew, thresholds %s instead of %s",
            other,
            point.target.kind,
            point.target.value,
            list(thresholds),
            list(point.thresholds),
        )
        return replace(point, thresholds=thresholds, calibration=self.calibration)
