"""What the service costs and how much of it a machine does: `make bench`, quoted in docs/performance.md."""
