"""Other people's stacks, each as a small program that ours is compared with or called by."""
