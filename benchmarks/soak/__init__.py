"""Every kind of client at once, hostile ones too, and what must hold afterwards."""
