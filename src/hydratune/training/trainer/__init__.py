"""Hugging Face's Trainer with exact resume, gradient accumulation in parts, and a guard against NaN."""
