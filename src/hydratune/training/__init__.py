"""What surrounds Hugging Face's `Trainer`."""
