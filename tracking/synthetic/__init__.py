"""A camera that does not exist: pictures with the truth beside them."""
