"""Runs every kind of client at once, hostile ones too, and checks the server afterwards."""
