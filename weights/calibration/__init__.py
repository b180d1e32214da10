"""What held-out images say: temperatures, the calibration table, thresholds for a target, and evaluation."""
