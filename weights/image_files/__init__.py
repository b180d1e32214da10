"""Removes everything but the first image from a file before a decoder reads it, at a bounded cost.

Decoders can spend seconds and gigabytes on comments, profiles, tags and further frames.
"""
