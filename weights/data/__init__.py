"""Labelled images to train, calibrate and judge on: from parquet files, or from a folder of class folders."""

from weights.data.labelled import DataError, LabelledImages
from weights.data.loading import load_images

__all__ = ["DataError", "LabelledImages", "load_images"]
