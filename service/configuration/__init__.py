"""Where the live configuration is kept, so that it survives a restart and reaches all replicas."""
