"""Calibration and evaluation on held-out images: temperatures, calibration table, thresholds for a target."""
