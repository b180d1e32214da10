"""One replica as several processes: an engine process, and front ends that speak HTTP and decode."""
