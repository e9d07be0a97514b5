"""Objects to train and judge on, and the multi-view pictures rendered from them."""
