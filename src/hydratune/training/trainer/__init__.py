"""Hugging Face's Trainer with exact resume, exact gradient accumulation, and a guard against NaN."""
