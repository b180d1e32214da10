"""The console: one page to classify images, tune thresholds and watch the service; its files are in `static`."""
