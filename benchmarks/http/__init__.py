"""Measures servers under load over HTTP, the same work without HTTP, and HTTP without the work."""
