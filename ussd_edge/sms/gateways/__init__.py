"""One small file each."""
