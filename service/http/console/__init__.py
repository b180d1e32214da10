"""The console: one page to try images, tune thresholds and watch the service, served as it lies in `static`."""
