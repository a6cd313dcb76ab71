"""Value vectors: directions of the residual stream that go with a value, and what is done with them."""
