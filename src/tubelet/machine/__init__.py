"""What any program needs: processes, heartbeat, timing, cache folder, prefetch, files, locks."""
