"""What PEFT puts beside the weights of a frozen model: a prefix of keys and values, or vectors that scale."""
