"""Perturbation searches: tensors in, tensors out. A network is to them only a callable that returns logits."""
