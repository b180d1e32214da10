"""The commands of `dvt`, one file each, and what they print."""
