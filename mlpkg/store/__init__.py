"""What mlpkg keeps on this machine: records, blobs, locks, and the one way to write a file."""
