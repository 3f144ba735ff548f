"""What the machine offers, and how a run uses it: device, precision, micro-batch, processes."""
