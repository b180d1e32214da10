"""The live configuration and its stores, which keep it over restarts and share it between replicas."""
