"""Floor 4: the supervised tasks. They meet only over the channels that the composition root hands them."""
