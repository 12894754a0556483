"""What happened to images and pods: a log of transitions, and who is told of them."""
