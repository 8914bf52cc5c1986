"""Many runs that answer one question: the third floor, on top of the training."""
