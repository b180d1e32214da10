"""Serving: when a stage runs (`engine`), how it is asked for (`api`), and the command line."""
