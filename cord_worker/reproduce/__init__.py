"""The paper in miniature: its tables with the bundled models, on a CPU (`make reproduce`)."""
