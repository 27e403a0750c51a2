"""What the engine costs: photographs at several sizes, paths through the engine, stages, workers."""
