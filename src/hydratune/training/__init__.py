"""What surrounds Hugging Face's Trainer. Imported by a run alone: `transformers` loads with it."""
