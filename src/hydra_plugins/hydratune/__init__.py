"""Hydra's side of `hydratune -m`."""
