"""Servers under load over HTTP, beside the same work without HTTP and beside HTTP without the work."""
