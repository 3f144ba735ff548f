"""Capabilities of the machine, and their use by a run: device, precision, micro-batch, and processes."""
