"""What a model is trained for: pure functions of tensors, and what the loop calls for a batch."""
